//! Live channels in Redis, shared by all processes.
//!
//! A channel is a stream, limited in length and in time; beside it a pub/sub channel of the same
//! name says that there is something new, and brings it where it is small: a pointer that got lost
//! is made up for by reading when the next one comes. One more stream notes gaps: moments before which messages may have been lost.
//!
//! One Redis, or one behind a failover; not a Redis Cluster, where these keys lie apart. It must not
//! evict keys (`maxmemory-policy noeviction`): what it drops by itself is missing without a gap.

mod channel;
mod config;
mod connection;
mod deliver;
mod hub;
mod publish;
mod pushed;
mod read;
mod script;
#[cfg(test)]
mod testing;
mod value;

use std::fmt;
use std::sync::Arc;

use tokio::task::AbortHandle;

use crate::id::{Resume, StreamId};
use crate::message::{Channel, Outcome, Publication};
use crate::queue::Queue;
use crate::subscription::{Home, Subscription};
use crate::{BoxFuture, Channels, LiveError};

pub use config::{InvalidConfig, RedisConfig};
use connection::Server;
use hub::Hub;
use publish::Publisher;

/// Channels in Redis.
pub struct RedisChannels {
    hub: Arc<Hub>,
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
        let hub = Arc::new(Hub::new(Arc::clone(&server)));
        let task = tokio::spawn(Arc::clone(&hub).run()).abort_handle();
        Ok(Self {
            publisher: Publisher::new(Arc::clone(&server), &config),
            hub,
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

    fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>> {
        Box::pin(self.publisher.mark_gap())
    }

    fn subscribe(&self, channel: Channel, resume: Resume, queue_bytes: usize) -> Subscription {
        let key: Arc<str> = channel.key(self.server.prefix()).into();
        let queue = Arc::new(Queue::new(queue_bytes));
        let listener = self.hub.join(&key, resume, Arc::clone(&queue));
        let home = Arc::clone(&self.hub) as Arc<dyn Home>;
        Subscription::new(home, key, listener, queue)
    }

    fn connected(&self) -> bool {
        self.hub.connected()
    }

    fn problem(&self) -> Option<String> {
        self.hub.problem()
    }
}

impl Drop for RedisChannels {
    fn drop(&mut self) {
        self.task.abort();
        self.hub.close();
    }
}

impl fmt::Debug for RedisChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisChannels").finish_non_exhaustive()
    }
}
