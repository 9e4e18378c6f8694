//! Why a text is refused.

use std::fmt;

use crate::field::FieldError;

/// Why a text was refused by [`scan`](super::scan).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanError {
    /// Not JSON at all (400).
    Syntax {
        /// Byte position of the first offence.
        at: usize,
        /// What was wrong there.
        message: &'static str,
    },
    /// JSON, but something in it cannot be kept (422), with the path of the offending field.
    Field(FieldError),
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { at, message } => write!(f, "invalid JSON at byte {at}: {message}"),
            Self::Field(error) => error.fmt(f),
        }
    }
}
