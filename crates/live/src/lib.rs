//! Live channels: a message published to a user's channel reaches all listeners of that user. A
//! listener that was away receives what it missed, or a [`Reset`] if that cannot be had.
//!
//! - [`Channels`] is the port, with two implementations under one conformance suite: [`local`]
//!   keeps the channels inside the process, [`redis`] shares them among processes.
//! - [`Message`] is what travels, [`StreamId`] its position in a channel, [`sse`] its wire format.
//! - [`Subscription`] is the listener's end: bounded in bytes, in order, without duplicates.
//!
//! Invariants, stated as absences: no gap without a [`Reset`]; no queue without a limit in bytes;
//! nothing here knows what an event means.

mod channels;
mod config;
mod dedup_window;
mod delivery;
mod high_water_mark;
mod id;
mod listeners;
pub mod local;
mod message;
mod queue;
pub mod redis;
mod resume;
pub mod sse;
mod subscription;

pub use channels::{BoxFuture, Channels, LiveError};
pub use config::Retention;
pub use delivery::{Batch, Delivery};
pub use id::{Resume, StreamId};
pub use message::{Channel, Entry, Message, Outcome, Position, Publication};
pub use resume::Reset;
pub use subscription::Subscription;
