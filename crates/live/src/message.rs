//! What is published, and what becomes of it.

use std::sync::Arc;

use bytes::Bytes;
use domain::TenantId;
use uuid::Uuid;

use crate::id::StreamId;

/// A user's channel. Users of the default tenant and of others never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Whose user it is.
    pub tenant: TenantId,
    /// The user.
    pub user_id: Arc<str>,
}

impl Channel {
    /// The channel of that user.
    #[must_use]
    pub fn new(tenant: TenantId, user_id: &str) -> Self {
        Self {
            tenant,
            user_id: user_id.into(),
        }
    }

    /// Its key in Redis: `{prefix}{user_id}` (S2-37, S2-48), and `tenant:{tenant}:` before it for
    /// any but the default tenant.
    #[must_use]
    pub fn key(&self, prefix: &str) -> String {
        if self.tenant == TenantId::default() {
            format!("{prefix}{}", self.user_id)
        } else {
            format!("tenant:{}:{prefix}{}", self.tenant.as_str(), self.user_id)
        }
    }
}

/// A message without its id (S2-36).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Name of the SSE event: the event's type.
    pub event: String,
    /// One JSON object on one line.
    pub data: Bytes,
}

impl Message {
    /// For whom: always one user so far.
    pub const SCOPE: &str = "user";
    /// Version of the message's form.
    pub const VERSION: &str = "1.0";
}

/// A record's place in the event log, which makes publishing it again harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition, `topic/number`.
    pub partition: Arc<str>,
    /// Its offset there.
    pub offset: i64,
    /// When it was written, in milliseconds; tells a topic that was made anew from the old one.
    pub timestamp_ms: i64,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// To whom.
    pub channel: Channel,
    /// The event it tells of, by the id under which it is stored: a channel takes each event once
    /// within a while, however often it was sent.
    pub event_id: Uuid,
    /// What.
    pub message: Message,
    /// From where in the log, if it came from there.
    pub position: Option<Position>,
}

/// What became of one publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the channel under that id.
    Published(StreamId),
    /// It was published before.
    Duplicate,
    /// This one cannot be published, whatever is done (a key of another type, for instance).
    Refused(String),
}

/// A message as it stands in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub id: StreamId,
    /// The message.
    pub message: Message,
}
