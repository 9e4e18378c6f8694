//! Publishing: one pipeline of script calls over one connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::aio::ConnectionLike as _;
use redis::{Cmd, Pipeline, RedisError, ServerError, ServerErrorKind, Value};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::connection::{Connection, GapReason, Server, failure};
use super::{keys, script, value};
use crate::channels::LiveError;
use crate::id::StreamId;
use crate::message::{Channel, Message, Outcome, Publication};
use crate::queue::lock;

/// How often it is tried to remove a channel in a later millisecond than that of its newest message; then it
/// is removed all the same, for another process publishes to it all the time.
const ERASE_ATTEMPTS: u32 = 50;

/// The publishing end.
pub(crate) struct Publisher {
    server: Arc<Server>,
    current: Mutex<Option<Arc<Connection>>>,
    /// One caller connects, the others wait for it.
    connecting: tokio::sync::Mutex<()>,
    /// When it last published to each server, by run id, as far as no gap of another server covers it.
    published: Mutex<HashMap<String, Instant>>,
    /// Half of the last messages or more had listeners: what comes is sent without asking before.
    heard: AtomicBool,
    /// Where the connection is driven: callers' runtimes may end before it.
    runtime: Handle,
}

impl Publisher {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            published: Mutex::default(),
            heard: AtomicBool::new(false),
            runtime: Handle::current(),
        }
    }

    /// Publishes in order; with nothing to publish, asks whether the server answers.
    pub(crate) async fn publish(
        &self,
        publications: &[Publication],
    ) -> Result<Vec<Outcome>, LiveError> {
        self.with_connection(async |connection| {
            if publications.is_empty() {
                let mut redis = connection.redis.clone();
                let () = redis::cmd("PING").query_async(&mut redis).await?;
                return Ok(Vec::new());
            }
            self.publish_over(&connection, publications).await
        })
        .await
    }

    /// Sends messages to those who listen; Redis says how many processes have a listener.
    pub(crate) async fn send_transient(
        &self,
        messages: &[(Channel, Message)],
    ) -> Result<usize, LiveError> {
        self.with_connection(async |connection| {
            let mut pipeline = Pipeline::with_capacity(messages.len());
            for (channel, message) in messages {
                let key = channel.key(&self.server.prefix);
                pipeline.publish(key, script::transient(message));
            }
            let heard: Vec<u64> = pipeline.query_async(&mut connection.redis.clone()).await?;
            Ok(heard.into_iter().filter(|count| *count > 0).count())
        })
        .await
    }

    /// Records a gap.
    pub(crate) async fn mark_gap(&self) -> Result<StreamId, LiveError> {
        self.with_connection(async |connection| self.server.gap(&connection, GapReason::Mark).await)
            .await
    }

    /// Removes what is kept of a channel; returns how many messages there were.
    pub(crate) async fn erase(&self, channel: &Channel, events: &[Uuid]) -> Result<u64, LiveError> {
        let channel = channel.key(&self.server.prefix);
        self.with_connection(async |connection| {
            let shared = &self.server.keys;
            let mut redis = connection.redis.clone();
            let mut attempt = 1;
            loop {
                let mut call = script::ERASE.key(channel.as_str());
                call.key(shared.sizes.as_str())
                    .key(shared.expiry.as_str())
                    .key(shared.bytes.as_str())
                    .key(keys::listened(&channel));
                for event in events {
                    call.key(keys::dedup(&channel, *event));
                }
                call.arg(u8::from(attempt == ERASE_ATTEMPTS));
                let removed: i64 = call.invoke_async(&mut redis).await?;
                if let Ok(removed) = u64::try_from(removed) {
                    return Ok(removed);
                }
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
    }

    /// The bytes kept of all channels.
    pub(crate) async fn kept_bytes(&self) -> Option<u64> {
        let bytes = self.with_connection(async |connection| {
            let mut get = redis::cmd("GET");
            get.arg(self.server.keys.bytes.as_str());
            let bytes: Option<u64> = get.query_async(&mut connection.redis.clone()).await?;
            Ok(bytes.unwrap_or_default())
        });
        bytes.await.ok()
    }

    /// Publishes to the channels that are listened to, and to no others. Whether one is, is asked before,
    /// so that no message travels for nobody; or by the script itself, in the same round trip, where the
    /// last messages had listeners.
    async fn publish_over(
        &self,
        connection: &Connection,
        publications: &[Publication],
    ) -> Result<Vec<Outcome>, RedisError> {
        let keys: Vec<String> = publications
            .iter()
            .map(|publication| publication.channel.key(&self.server.prefix))
            .collect();
        let keep_all = self.server.retention.keep_all;
        let ask = !keep_all && !self.heard.load(Ordering::Relaxed);
        let listened: Vec<bool> = if ask {
            let mut look = redis::cmd("MGET");
            for key in &keys {
                look.arg(keys::listened(key));
            }
            let since: Vec<Option<Value>> = look.query_async(&mut connection.redis.clone()).await?;
            // What it has no listener for is as good as published to it.
            self.note_published(&connection.run);
            since.iter().map(Option::is_some).collect()
        } else {
            vec![true; keys.len()]
        };
        let all = publications.iter().zip(&keys).zip(&listened);
        let wanted: Vec<_> = all.filter_map(|(one, is)| is.then_some(one)).collect();
        let looks = !ask && !keep_all;
        let published = self.publish_all(connection, &wanted, looks).await?;
        let mut published = published.into_iter();
        let outcome = |is: &bool| is.then(|| published.next()).flatten();
        let outcomes: Vec<_> = listened
            .iter()
            .map(outcome)
            .map(|outcome| outcome.unwrap_or(Outcome::NoListener))
            .collect();
        let unheard = outcomes.iter().filter(|one| **one == Outcome::NoListener);
        let heard = unheard.count() * 2 <= outcomes.len();
        self.heard.store(heard, Ordering::Relaxed);
        Ok(outcomes)
    }

    /// Publishes all of them, each to the channel with that key; with `looks` only if that is listened to.
    async fn publish_all(
        &self,
        connection: &Connection,
        publications: &[(&Publication, &String)],
        looks: bool,
    ) -> Result<Vec<Outcome>, RedisError> {
        let mut redis = connection.redis.clone();
        let mut outcomes = Vec::with_capacity(publications.len());
        let mut loaded = false;
        while outcomes.len() < publications.len() {
            let rest = &publications[outcomes.len()..];
            let mut pipeline = Pipeline::with_capacity(rest.len());
            for (publication, key) in rest {
                pipeline.add_command(self.command(publication, key, looks));
            }
            let publishing = Publishing {
                publisher: self,
                run: &connection.run,
            };
            let replies = redis.req_packed_commands(&pipeline, 0, rest.len()).await?;
            publishing.answered(&replies);
            for reply in replies {
                match reply {
                    // Then it is missing for all that follow too: nothing gets out of order.
                    Value::ServerError(error) if missing_script(&error) && !loaded => break,
                    reply => outcomes.push(outcome(reply)?),
                }
            }
            if outcomes.len() < publications.len() && !loaded {
                script::PUBLISH.load_async(&mut redis).await?;
                loaded = true;
            }
        }
        Ok(outcomes)
    }

    fn command(&self, publication: &Publication, key: &str, looks: bool) -> Cmd {
        let Publication {
            event_id,
            message,
            position,
            ..
        } = publication;
        let Server {
            keys: shared,
            retention,
            ..
        } = &*self.server;
        let mut cmd = Cmd::with_capacity(21, message.data.len() + 768);
        cmd.arg("EVALSHA")
            .arg(script::PUBLISH.get_hash())
            .arg(6 + usize::from(looks))
            .arg(key)
            .arg(shared.positions.as_str())
            .arg(keys::dedup(key, *event_id))
            .arg(shared.sizes.as_str())
            .arg(shared.expiry.as_str())
            .arg(shared.bytes.as_str());
        if looks {
            cmd.arg(keys::listened(key));
        }
        cmd.arg(message.event.as_str())
            .arg(&message.data[..])
            .arg(Message::SCOPE)
            .arg(Message::VERSION)
            .arg(retention.maxlen)
            .arg(retention.ttl_seconds)
            .arg(retention.dedup_seconds)
            .arg(retention.max_bytes);
        if let Some(position) = position {
            cmd.arg(&*position.partition)
                .arg(position.offset)
                .arg(position.timestamp_ms);
        }
        cmd
    }

    /// Runs commands over the connection, connecting first if there is none, all within one
    /// timeout. Drops the connection after an error that may be its own.
    async fn with_connection<T>(
        &self,
        run: impl AsyncFnOnce(Arc<Connection>) -> Result<T, RedisError>,
    ) -> Result<T, LiveError> {
        let mut used = None;
        let result = self.server.within(async {
            let connection = self.connection().await?;
            used = Some(Arc::clone(&connection));
            self.record_move(&connection).await?;
            run(connection).await
        });
        let error = match result.await {
            Ok(value) => return Ok(value),
            Err(error) => failure(&error),
        };
        if let (LiveError::Unavailable(_), Some(used)) = (&error, used) {
            let mut current = lock(&self.current);
            current.take_if(|current| Arc::ptr_eq(current, &used));
        }
        Err(error)
    }

    /// Records a gap if the last messages were published to another server than this one, which may
    /// not have them: one that was the master before may come back with what it had then.
    async fn record_move(&self, connection: &Connection) -> Result<(), RedisError> {
        let last = lock(&self.published)
            .iter()
            .filter_map(|(run, at)| (*run != connection.run).then_some(*at))
            .max();
        if let Some(last) = last {
            let reason = GapReason::Moved(last.elapsed());
            self.server.gap(connection, reason).await?;
            lock(&self.published).retain(|run, at| *run == connection.run || *at > last);
        }
        Ok(())
    }

    fn note_published(&self, run: &str) {
        let mut published = lock(&self.published);
        if let Some(at) = published.get_mut(run) {
            *at = Instant::now();
        } else {
            published.insert(run.to_owned(), Instant::now());
        }
    }

    fn current(&self) -> Option<Arc<Connection>> {
        lock(&self.current).clone()
    }

    async fn connection(&self) -> Result<Arc<Connection>, RedisError> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let server = Arc::clone(&self.server);
        let connection = self.runtime.spawn(async move { server.connect().await });
        let connection = connection
            .await
            .unwrap_or_else(|_| Err(value::unexpected("the runtime has ended")))?;
        let connection = Arc::new(connection);
        *lock(&self.current) = Some(Arc::clone(&connection));
        Ok(connection)
    }
}

/// Messages on their way to the server of that run id. When this is dropped, even by a timeout, they
/// count as published there, unless the server has refused all of them.
struct Publishing<'a> {
    publisher: &'a Publisher,
    run: &'a str,
}

impl Publishing<'_> {
    fn answered(self, replies: &[Value]) {
        let refused = |reply| matches!(reply, &Value::ServerError(_));
        if replies.iter().all(refused) {
            std::mem::forget(self);
        }
    }
}

impl Drop for Publishing<'_> {
    fn drop(&mut self) {
        self.publisher.note_published(self.run);
    }
}

fn missing_script(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::NoScript)
}

/// An error of one command is the outcome of its message; an error of the server's state fails the
/// batch.
fn outcome(reply: Value) -> Result<Outcome, RedisError> {
    match reply {
        Value::Nil => Ok(Outcome::Duplicate),
        Value::Int(_) => Ok(Outcome::NoListener),
        Value::ServerError(error) => {
            let of_the_command =
                error.code() == "WRONGTYPE" || error.kind() == Some(ServerErrorKind::ResponseError);
            if of_the_command {
                Ok(Outcome::Refused(error.to_string()))
            } else {
                Err(error.into())
            }
        }
        reply => value::id(reply).map(Outcome::Published),
    }
}
