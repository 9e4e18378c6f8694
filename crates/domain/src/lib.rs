//! The event and everything that can be said about it without I/O: identity, envelopes,
//! validation, categories, subjects and stream ids.
//!
//! Invariants, stated as absences: no runtime, no I/O, no clock reads, no randomness. Whatever
//! depends on the moment or on chance (received time, fresh ids) comes in through [`envelope::Context`].

pub mod access;
pub mod anomaly;
pub mod category;
pub mod cloudevent;
pub mod envelope;
pub mod event;
pub mod field;
pub mod fold;
pub mod id;
pub mod instrumentation;
pub mod json;
pub mod limits;
pub mod mentions;
mod names;
pub mod ordering;
pub mod pattern;
pub mod personal;
pub mod processor;
pub mod redriven;
pub mod retry;
pub mod search;
pub mod selector;
pub mod stream;
pub mod subject;
pub mod tenant_limits;
pub mod timestamp;
pub mod upcast;
pub mod write;

pub use category::EventCategory;
pub use envelope::{Context, DecodeError, decode};
pub use event::{Event, EventSource, EventStatus};
pub use field::{Code, FieldError};
pub use id::TenantId;
pub use json::Json;
pub use limits::Limits;
pub use selector::Selector;
