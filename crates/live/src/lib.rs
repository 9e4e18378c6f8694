//! Live channels: what is published to a user's channel reaches everyone who listens, and who was
//! away for a while gets what he missed, or is told that something is missing.
//!
//! - [`Channels`] is the port, with two implementations under one conformance suite.
//! - [`message`] is what travels, [`id`] its place in a channel, [`sse`] its form on the wire.
//! - [`subscription`] is the listener's end: bounded in bytes, in order, without duplicates.
//! - [`local`] keeps the channels inside the process, [`redis`] shares them among processes.
//!
//! Invariants, stated as absences: no gap that the listener is not told of ([`Reset`]); no queue
//! without a limit in bytes; nothing here knows what an event means.

mod config;
mod fence;
pub mod id;
mod listeners;
pub mod local;
pub mod message;
mod queue;
pub mod redis;
mod resume;
mod seen;
pub mod sse;
pub mod subscription;

use std::future::Future;
use std::pin::Pin;

pub use id::{Resume, StreamId};
pub use message::{Channel, Entry, Message, Outcome, Position, Publication};
pub use subscription::{Batch, Delivery, Reset, Subscription};

/// A future as the port returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why nothing can be said or heard now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The server does not answer, or not in time. What was sent may have been done: publishing
    /// again is safe: neither a [`Position`] nor an event is published twice.
    #[error("live channels are unavailable: {0}")]
    Unavailable(String),
    /// The server answers and refuses everything: out of memory, read-only, not authorised.
    #[error("live channels refuse: {0}")]
    Refused(String),
}

/// Publish to and listen on the channels of users.
pub trait Channels: Send + Sync + 'static {
    /// Publishes in order, in one round trip, and says for each what became of it. A publication
    /// whose [`Position`] was reached before is not published again, nor is one whose event the
    /// channel got lately.
    ///
    /// # Errors
    /// [`LiveError`] when the batch as a whole failed; some of it may have been published.
    fn publish<'a>(
        &'a self,
        publications: &'a [Publication],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, LiveError>>;

    /// Notes, for everyone, that messages were lost up to now: listeners get
    /// [`Delivery::Reset`], and so does whoever resumes from before.
    ///
    /// # Errors
    /// [`LiveError`] when it could not be noted.
    fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>>;

    /// Listens to a channel. Does not wait for a server that is down: the subscription begins when
    /// it is back. At most `queue_bytes` of messages wait for a slow listener.
    fn subscribe(&self, channel: Channel, resume: Resume, queue_bytes: usize) -> Subscription;

    /// Whether the channels can be used now, as far as is known.
    fn connected(&self) -> bool;

    /// Why they cannot be used, where that is known.
    fn problem(&self) -> Option<String> {
        None
    }
}
