//! How far a source was sent.

use serde::{Deserialize, Serialize};

/// A position between two lines of the source, which may be several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Bytes before it.
    pub(crate) offset: u64,
    /// Lines before it, in its file.
    pub(crate) lines: u64,
    /// Files before its own.
    #[serde(default)]
    pub(crate) files: u64,
}
