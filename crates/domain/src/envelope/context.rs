//! What is known around an event that is to be read, and why there may be none.

use std::fmt;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::category::EventCategory;
use crate::event::EventSource;
use crate::field::FieldError;
use crate::id::TenantId;
use crate::limits::Limits;

/// Through which door an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A backend route: any envelope; the sender cannot set `tenant_id` or `received_at`.
    Http,
    /// A frontend route: the frontend form only (S0-31).
    Frontend,
    /// The log: any envelope, and our own canonical form with all its fields.
    Log,
}

/// What the surroundings know of an event that it may not say itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The door.
    pub origin: Origin,
    /// Whose event it is, unless the canonical form on the log says otherwise.
    pub tenant: &'a TenantId,
    /// When it was received, unless the canonical form on the log says otherwise. An event without a
    /// time of its own happened then.
    pub received_at: OffsetDateTime,
    /// The door's clock: an event's own time may not lie far beyond it.
    pub now: OffsetDateTime,
    /// The id it gets if it has none of its own.
    pub fresh_id: Uuid,
    /// Its source if it names none we know.
    pub default_source: EventSource,
    /// Its category if it names none we know.
    pub default_category: EventCategory,
    /// Media type it was declared with; `application/cloudevents…` insists on that envelope.
    pub content_type: Option<&'a str>,
    /// What it may be at most.
    pub limits: Limits,
}

/// Why there is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// Not UTF-8 or not JSON (400).
    Syntax(String),
    /// Larger than [`Limits::max_event_bytes`] (413).
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// JSON, but these fields are wrong (400 or 422); never empty.
    Fields(Vec<FieldError>),
}

impl DecodeError {
    /// A stable, bounded word for metrics and dead letters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "invalid_json",
            Self::TooLarge { .. } => "too_large",
            Self::Fields(errors) => errors.first().map_or("invalid", |e| e.code.as_str()),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => f.write_str(message),
            Self::TooLarge { bytes, limit } => {
                write!(
                    f,
                    "the event has {bytes} bytes, more than the limit of {limit}"
                )
            }
            Self::Fields(errors) => {
                for (i, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for DecodeError {}
