//! The fold itself: rules applied one after the other, all or none.

use std::collections::HashMap;

use serde_json::Value;

use super::rule::{self, Rule};
use super::state::{FoldError, Reducer, State};
use crate::event::Event;
use crate::field::FieldError;
use crate::upcast::Upcasters;

/// Bytes of a state, about.
pub const MAX_STATE: usize = 256 * 1024;
/// Rules of one fold.
const MAX_RULES: usize = 16;

/// A fold: one rule or several, each keeping members of its own in the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold(Vec<Rule>);

/// What folds need beside the event: the extensions of this process.
#[derive(Clone, Default)]
pub struct Extensions {
    /// Reducers by name.
    pub reducers: HashMap<String, Reducer>,
    /// What brings old versions of events up to date.
    pub upcasters: Upcasters,
}

impl Fold {
    /// Reads a fold: an object with `rule` and what that rule needs, or an array of such objects.
    ///
    /// # Errors
    /// Everything that is wrong with it, under the path `fold`.
    pub fn parse(value: &Value) -> Result<Self, Vec<FieldError>> {
        rule::parse(value, MAX_RULES).map(Self)
    }

    /// The fold as [`Fold::parse`] reads it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self.0.as_slice() {
            [rule] => rule.to_value(),
            rules => rules.iter().map(Rule::to_value).collect(),
        }
    }

    /// Whether the order of the events makes a difference to the state.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.0.iter().any(Rule::is_ordered)
    }

    /// Whether it calls reducers, which are known to the processor alone.
    #[must_use]
    pub fn has_reducer(&self) -> bool {
        (self.0.iter()).any(|rule| matches!(rule, Rule::Reducer { .. }))
    }

    /// Folds an event into the state, brought up to date by the upcasters first.
    ///
    /// # Errors
    /// The field that is at fault; the state stays as it was.
    pub fn apply(
        &self,
        extensions: &Extensions,
        state: &mut State,
        event: &Event,
    ) -> Result<(), FoldError> {
        let current = extensions.upcasters.current(event);
        let current = current.map_err(|message| FoldError::new("", message))?;
        let mut next = state.clone();
        for rule in &self.0 {
            rule.apply(&extensions.reducers, &mut next, &current)?;
        }
        let bytes: usize = next
            .iter()
            .map(|(key, value)| key.len() + size(value))
            .sum();
        if bytes > MAX_STATE {
            let message = format!("the state would be larger than {MAX_STATE} bytes");
            return Err(FoldError::new("", message));
        }
        *state = next;
        Ok(())
    }
}

/// About how many bytes a value takes; more than any state may have for text that PostgreSQL cannot hold.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) if text.contains('\0') => MAX_STATE + 1,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 2,
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| key.len() + size(value) + 4)
            .sum(),
    }
}
