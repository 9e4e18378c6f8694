//! Live channels in Redis, shared by all processes.
//!
//! A channel is a stream, limited in length and in time. A pub/sub channel of the same name carries
//! a pointer to each new message, and the message itself where it is small; what a lost pointer
//! announced is read when the next one comes. One more stream records gaps: moments before which
//! messages may have been lost.
//!
//! A process with listeners of a channel says so in a key, again and again. A publisher looks at
//! these keys first, and sends nothing else of a message to a channel that nobody listens to. Since
//! when a channel has been listened to is the first place that can be resumed from.
//!
//! One Redis, or one behind a failover; not a Redis Cluster, where these keys lie on different
//! nodes. It must not evict keys (`maxmemory-policy noeviction`): what it evicts is missing without
//! a gap.

mod apply;
mod config;
mod connection;
mod inline_message;
mod keys;
mod publish;
mod read;
mod script;
mod state;
mod subscriber;
#[cfg(test)]
mod testing;
mod value;

use std::fmt;
use std::sync::Arc;

use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::channels::{BoxFuture, Channels, LiveError};
use crate::id::{Resume, StreamId};
use crate::message::{Channel, Message, Outcome, Publication};
use crate::queue::Queue;
use crate::subscription::{ListenerHost, Subscription};
pub use config::{InvalidConfig, RedisConfig};
use connection::Server;
use publish::Publisher;
use subscriber::Subscriber;

/// Channels in Redis.
pub struct RedisChannels {
    subscriber: Arc<Subscriber>,
    publisher: Publisher,
    server: Arc<Server>,
    task: AbortHandle,
}

impl RedisChannels {
    /// Channels in the Redis of that configuration; connects in the background, and again whenever
    /// the connection is lost.
    ///
    /// # Errors
    /// [`InvalidConfig`] if the URL or the prefix cannot be used.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(config: RedisConfig) -> Result<Self, InvalidConfig> {
        let server = Arc::new(Server::new(&config)?);
        let subscriber = Arc::new(Subscriber::new(Arc::clone(&server)));
        let task = tokio::spawn(Arc::clone(&subscriber).run()).abort_handle();
        Ok(Self {
            publisher: Publisher::new(Arc::clone(&server)),
            subscriber,
            server,
            task,
        })
    }
}

impl Channels for RedisChannels {
    fn publish<'a>(
        &'a self,
        publications: &'a [Publication],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, LiveError>> {
        Box::pin(self.publisher.publish(publications))
    }

    fn send_transient<'a>(
        &'a self,
        messages: &'a [(Channel, Message)],
    ) -> BoxFuture<'a, Result<usize, LiveError>> {
        Box::pin(self.publisher.send_transient(messages))
    }

    fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>> {
        Box::pin(self.publisher.mark_gap())
    }

    fn erase<'a>(
        &'a self,
        channel: &'a Channel,
        events: &'a [Uuid],
    ) -> BoxFuture<'a, Result<u64, LiveError>> {
        Box::pin(self.publisher.erase(channel, events))
    }

    fn kept_bytes(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(self.publisher.kept_bytes())
    }

    fn subscribe(&self, channel: Channel, resume: Resume, queue_bytes: usize) -> Subscription {
        let key: Arc<str> = channel.key(&self.server.prefix).into();
        let queue = Arc::new(Queue::new(queue_bytes));
        let listener = self.subscriber.join(&key, resume, Arc::clone(&queue));
        let host = Arc::clone(&self.subscriber) as Arc<dyn ListenerHost>;
        Subscription::new(host, key, listener, queue)
    }

    fn connected(&self) -> bool {
        self.subscriber.connected()
    }

    fn problem(&self) -> Option<String> {
        self.subscriber.problem()
    }
}

impl Drop for RedisChannels {
    fn drop(&mut self) {
        self.task.abort();
        self.subscriber.close();
    }
}

impl fmt::Debug for RedisChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisChannels").finish_non_exhaustive()
    }
}
