//! What is wrong with which field.

use std::fmt;

use crate::names::names;

names! {
    /// Why a field was refused; decides the HTTP status (C25) and the dead-letter reason.
    pub enum Code {
        /// A mandatory field is absent or null.
        Missing = "missing",
        /// The JSON type is not the field's.
        WrongType = "wrong_type",
        /// A date, number or length outside the allowed range.
        OutOfRange = "out_of_range",
        /// Text that is not of the field's format (dates, UUIDs).
        BadFormat = "bad_format",
        /// A value outside the field's set: empty or illegal `event_type`, unknown enum value.
        IllegalValue = "illegal_value",
        /// Something PostgreSQL cannot hold: NUL, a lone surrogate, a number out of range.
        NotStorable = "not_storable",
        /// Nested deeper than the limit.
        TooDeep = "too_deep",
    }
}

/// One refused field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where: `user_id`, `data.items[2].name`, in a batch `[3].user_id`. Empty for the whole body.
    pub path: String,
    /// Why.
    pub code: Code,
    /// A sentence for a person, without the path.
    pub message: String,
}

impl FieldError {
    /// A refused field.
    pub fn new(path: impl Into<String>, code: Code, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            code,
            message: message.into(),
        }
    }

    /// The same error seen from outside: `prefix` + path, as in `[3]` + `user_id` = `[3].user_id`.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path = match (prefix.is_empty(), self.path.is_empty()) {
            (true, _) => self.path,
            (false, true) => prefix.to_owned(),
            (false, false) if self.path.starts_with('[') => format!("{prefix}{}", self.path),
            (false, false) => format!("{prefix}.{}", self.path),
        };
        self
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for FieldError {}
