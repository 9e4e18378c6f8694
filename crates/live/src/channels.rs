//! The port: publish to the channels of users, and subscribe to them.

use std::future::Future;
use std::pin::Pin;

use uuid::Uuid;

use crate::id::{Resume, StreamId};
use crate::message::{Channel, Message, Outcome, Publication};
use crate::subscription::Subscription;

/// A future as the port returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a batch was not published or a gap not marked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// The server does not answer, not in time, or is not the master. It may have done what was sent;
    /// publishing again is safe: neither a [`Position`](crate::Position) nor an event is published twice.
    #[error("live channels are unavailable: {0}")]
    Unavailable(String),
    /// The server answers and refuses everything: out of memory, not authorised.
    #[error("live channels refuse: {0}")]
    Refused(String),
}

/// The channels of all users.
pub trait Channels: Send + Sync + 'static {
    /// Publishes in order and returns the outcome of each publication. What goes to a channel that
    /// nobody listens to, and has not within its time to live, is not written anywhere
    /// ([`Outcome::NoListener`]), unless [`Retention::keep_all`](crate::Retention). A publication is
    /// a duplicate if its [`Position`](crate::Position) was reached before, or if
    /// its channel has received its event within [`Retention::dedup_seconds`](crate::Retention).
    ///
    /// # Errors
    /// [`LiveError`] when the batch as a whole failed; some of it may have been published.
    fn publish<'a>(
        &'a self,
        publications: &'a [Publication],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, LiveError>>;

    /// Sends messages to those who listen now and keep up, in order, and nothing else: none is kept or
    /// counted, no cursor moves, and who resumes is not sent them again. Returns how many of them went
    /// to a channel with listeners.
    ///
    /// # Errors
    /// [`LiveError`] when they could not be sent; some of them may have been.
    fn send_transient<'a>(
        &'a self,
        messages: &'a [(Channel, Message)],
    ) -> BoxFuture<'a, Result<usize, LiveError>>;

    /// Records, for all channels, that messages were lost up to now: listeners, and those that
    /// resume from before it, receive [`Delivery::Reset`](crate::Delivery::Reset).
    ///
    /// # Errors
    /// [`LiveError`] when it could not be recorded.
    fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>>;

    /// Subscribes to a channel. Does not wait for a server that is down: the subscription begins
    /// when the server is back. At most `queue_bytes` of messages wait for a slow listener.
    fn subscribe(&self, channel: Channel, resume: Resume, queue_bytes: usize) -> Subscription;

    /// Removes what is kept of a channel, with what it remembers of these events; returns how many
    /// messages there were. Who listens goes on listening.
    ///
    /// # Errors
    /// [`LiveError`] when it could not be removed.
    fn erase<'a>(
        &'a self,
        channel: &'a Channel,
        events: &'a [Uuid],
    ) -> BoxFuture<'a, Result<u64, LiveError>>;

    /// Bytes kept of all channels, in Redis about; `None` if that is not known now.
    fn kept_bytes(&self) -> BoxFuture<'_, Option<u64>>;

    /// Whether anybody listens to any of them; true where that is not known.
    fn listened(&self) -> bool {
        true
    }

    /// Whether the channels can be used now, as far as is known.
    fn connected(&self) -> bool;

    /// Why they cannot be used, where that is known.
    fn problem(&self) -> Option<String> {
        None
    }
}
