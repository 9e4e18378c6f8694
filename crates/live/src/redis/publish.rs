//! Publishing: one pipeline of script calls over one connection.

use std::sync::{Arc, Mutex};

use redis::aio::ConnectionLike as _;
use redis::{Cmd, Pipeline, RedisError, ServerError, ServerErrorKind, Value};
use tokio::runtime::Handle;

use super::config::RedisConfig;
use super::connection::{Link, Server, failure};
use super::{script, value};
use crate::LiveError;
use crate::id::StreamId;
use crate::message::{Message, Outcome, Publication};
use crate::queue::lock;

/// The publishing end.
pub(crate) struct Publisher {
    server: Arc<Server>,
    maxlen: usize,
    ttl_seconds: u64,
    dedup_seconds: u64,
    current: Mutex<Current>,
    /// One connects, the others wait for it.
    connecting: tokio::sync::Mutex<()>,
    /// Where the connection is driven: callers' runtimes may end before it.
    runtime: Handle,
}

/// The connection in use; a number tells it from those before.
#[derive(Default)]
struct Current {
    link: Option<Link>,
    number: u64,
}

impl Publisher {
    pub(crate) fn new(server: Arc<Server>, config: &RedisConfig) -> Self {
        Self {
            server,
            maxlen: config.maxlen,
            ttl_seconds: config.ttl_seconds,
            dedup_seconds: config.dedup_seconds,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// Publishes in order; with nothing to publish, asks whether the server answers.
    pub(crate) async fn publish(
        &self,
        publications: &[Publication],
    ) -> Result<Vec<Outcome>, LiveError> {
        self.with_link(async |mut link| {
            if publications.is_empty() {
                let ping = redis::cmd("PING");
                let () = ping.query_async(&mut link.connection).await?;
                return Ok(Vec::new());
            }
            self.publish_over(&mut link, publications).await
        })
        .await
    }

    /// Notes a gap.
    pub(crate) async fn mark_gap(&self) -> Result<StreamId, LiveError> {
        self.with_link(async |mut link| self.server.gap(&mut link, "mark").await)
            .await
    }

    async fn publish_over(
        &self,
        link: &mut Link,
        publications: &[Publication],
    ) -> Result<Vec<Outcome>, RedisError> {
        let mut outcomes = Vec::with_capacity(publications.len());
        let mut loaded = false;
        while outcomes.len() < publications.len() {
            let rest = &publications[outcomes.len()..];
            let mut pipeline = Pipeline::with_capacity(rest.len());
            for publication in rest {
                pipeline.add_command(self.command(publication));
            }
            let connection = &mut link.connection;
            let replies = connection.req_packed_commands(&pipeline, 0, rest.len());
            for reply in replies.await? {
                match reply {
                    // Then it is missing for all that follow too: nothing gets out of order.
                    Value::ServerError(error) if missing_script(&error) && !loaded => break,
                    reply => outcomes.push(outcome(reply)?),
                }
            }
            if outcomes.len() < publications.len() && !loaded {
                script::PUBLISH.load_async(connection).await?;
                loaded = true;
            }
        }
        Ok(outcomes)
    }

    fn command(&self, publication: &Publication) -> Cmd {
        let Publication {
            channel,
            event_id,
            message,
            position,
        } = publication;
        let key = channel.key(self.server.prefix());
        let mut cmd = Cmd::with_capacity(16, message.data.len() + 512);
        cmd.arg("EVALSHA")
            .arg(script::PUBLISH.get_hash())
            .arg(3)
            .arg(&key)
            .arg(self.server.positions.as_str())
            .arg(script::seen_key(&key, *event_id))
            .arg(message.event.as_str())
            .arg(&message.data[..])
            .arg(Message::SCOPE)
            .arg(Message::VERSION)
            .arg(self.maxlen)
            .arg(self.ttl_seconds)
            .arg(self.dedup_seconds);
        if let Some(position) = position {
            cmd.arg(&*position.partition)
                .arg(position.offset)
                .arg(position.timestamp_ms);
        }
        cmd
    }

    /// Runs commands over the connection, which is made if there is none, all within one timeout.
    /// After an error that may be the connection's it is given up.
    async fn with_link<T>(
        &self,
        run: impl AsyncFnOnce(Link) -> Result<T, RedisError>,
    ) -> Result<T, LiveError> {
        let mut number = None;
        let result = self
            .server
            .within(async {
                let (link, of) = self.link().await?;
                number = Some(of);
                run(link).await
            })
            .await;
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => failure(&error),
        };
        if matches!(error, LiveError::Unavailable(_)) {
            let mut current = lock(&self.current);
            if number == Some(current.number) {
                current.link = None;
            }
        }
        Err(error)
    }

    fn current(&self) -> Option<(Link, u64)> {
        let current = lock(&self.current);
        Some((current.link.clone()?, current.number))
    }

    async fn link(&self) -> Result<(Link, u64), RedisError> {
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        let server = Arc::clone(&self.server);
        let link = self.runtime.spawn(async move { server.connect().await });
        let link = link
            .await
            .unwrap_or_else(|_| Err(value::unexpected("the runtime has ended")))?;
        let mut current = lock(&self.current);
        current.link = Some(link.clone());
        current.number += 1;
        Ok((link, current.number))
    }
}

fn missing_script(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::NoScript)
}

/// Errors of the one command end with it; those of the server's state fail the batch.
fn outcome(reply: Value) -> Result<Outcome, RedisError> {
    match reply {
        Value::Nil => Ok(Outcome::Duplicate),
        Value::ServerError(error) => {
            let of_the_command =
                error.code() == "WRONGTYPE" || error.kind() == Some(ServerErrorKind::ResponseError);
            if of_the_command {
                Ok(Outcome::Refused(error.to_string()))
            } else {
                Err(error.into())
            }
        }
        reply => match value::id(&reply) {
            Some(id) => Ok(Outcome::Published(id)),
            None => Err(value::unexpected("publish")),
        },
    }
}
