//! What a fold works on, and why it cannot.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::event::Event;

/// The state of a projection: a JSON object.
pub type State = Map<String, Value>;

/// A reducer written in Rust, which a composition registers under a name: takes the state, the event
/// and nothing else, and returns the next state, or a sentence about why it cannot.
pub type Reducer = Arc<dyn Fn(&State, &Event) -> Result<State, String> + Send + Sync>;

/// Why an event could not be folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldError {
    /// The field of the event, as in `data.total`; empty where no field is at fault.
    pub path: String,
    /// A sentence, without the path.
    pub message: String,
}

impl FoldError {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for FoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path} {}", self.message),
        }
    }
}

impl std::error::Error for FoldError {}
