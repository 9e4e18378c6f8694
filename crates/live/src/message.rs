//! What is published, and the outcome.

use std::sync::Arc;

use bytes::Bytes;
use domain::TenantId;
use uuid::Uuid;

use crate::id::StreamId;

/// A user's channel. Users of the default tenant and of others never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Channel {
    /// The user's tenant.
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

    /// Its key in Redis: `{prefix}{user_id}` (S2-37, S2-48), and for any but the default tenant with the
    /// tenant in it: `sse:{tenant}:user:{user_id}` where the prefix is `sse:user:`. Where that could be the
    /// key of a user of the default tenant, `tenant:{tenant}:` stands before it instead.
    #[must_use]
    pub fn key(&self, prefix: &str) -> String {
        let (tenant, user) = (self.tenant.as_str(), &self.user_id);
        if self.tenant == TenantId::default() {
            return format!("{prefix}{user}");
        }
        match prefix.split_once(':') {
            // The part behind the first colon tells the two apart, unless the tenant is named like it.
            Some((head, rest))
                if head != "tidegate"
                    && rest.ends_with(':')
                    && rest.split(':').next() != Some(tenant) =>
            {
                format!("{head}:{tenant}:{rest}{user}")
            }
            _ => format!("tenant:{tenant}:{prefix}{user}"),
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
    /// Who receives it: always one user so far.
    pub const SCOPE: &str = "user";
    /// Version of the message's format.
    pub const VERSION: &str = "1.0";
}

/// A record's position in the event log, which makes publishing it again harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition, `topic/number`.
    pub partition: Arc<str>,
    /// Its offset there.
    pub offset: i64,
    /// When it was written, in milliseconds; a topic that was deleted and created again has later
    /// times at lower offsets.
    pub timestamp_ms: i64,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The channel that receives it.
    pub channel: Channel,
    /// The id under which the event is stored: a channel takes each event once within a while,
    /// however often it was sent.
    pub event_id: Uuid,
    /// The message.
    pub message: Message,
    /// Where in the log its record is, if it came from there.
    pub position: Option<Position>,
}

/// The outcome of one publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the channel under that id.
    Published(StreamId),
    /// Nothing new: it was published before.
    Duplicate,
    /// Nobody listens to the channel, or did lately: nothing was written.
    NoListener,
    /// It can never be published (its key is of another type, for instance).
    Refused(String),
}

/// A message in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its position.
    pub id: StreamId,
    /// The message.
    pub message: Message,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_channels_have_one_key() {
        let key = |tenant: &str, user: &str, prefix: &str| {
            Channel::new(TenantId::parse(tenant).unwrap(), user).key(prefix)
        };
        assert_eq!(key("default", "u", "sse:user:"), "sse:user:u");
        assert_eq!(key("acme", "u", "sse:user:"), "sse:acme:user:u");
        assert_eq!(key("user", "u", "sse:user:"), "tenant:user:sse:user:u");
        assert_eq!(key("acme", "u", "live"), "tenant:acme:liveu");
        assert_eq!(
            key("sse", "u", "tidegate:gaps:"),
            "tenant:sse:tidegate:gaps:u"
        );
        for prefix in ["sse:user:", "live:", "a:b", "a:acme:b:"] {
            for tenant in ["acme", "user", "b"] {
                for user in ["u", "user:u", "acme:u", "acme:user:u", ":u"] {
                    let key = key(tenant, user, prefix);
                    let of_default = key.strip_prefix(prefix);
                    assert_eq!(of_default, None, "{prefix} {tenant} {user}: {key}");
                }
            }
        }
    }
}
