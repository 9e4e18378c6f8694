//! Sends events to Tidegate from a backend.
//!
//! [`Client::track`] puts an event into a queue and returns at once. A thread of the client's own sends what
//! is there in batches, again and again under the same ids while the service is down or its answers are
//! lost, so that each event is stored once. [`Client::close`], or dropping the last clone, sends the rest.
//!
//! ```no_run
#![doc = include_str!("../examples/track.rs")]
//! ```
//!
//! [`Sender`] is the part below: it sends one batch that is there already, and says what became of it.

pub mod answer;
mod client;
mod counters;
mod event;
mod sender;
mod worker;

pub use client::{Builder, Client, Counts, NotTaken};
pub use event::Event;
pub use sender::{Refused, SendError, Sender, Sent};
