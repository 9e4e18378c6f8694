//! Connecting, and detecting that the server is not the one it was.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ErrorKind, ProtocolVersion, RedisError};

use super::config::{InvalidConfig, RedisConfig};
use super::{keys, script, value};
use crate::channels::LiveError;
use crate::config::Retention;
use crate::id::StreamId;

/// The Redis of these channels, and the names of its keys.
pub(crate) struct Server {
    client: Client,
    pub(crate) prefix: String,
    pub(super) keys: keys::Shared,
    /// How long a command may take.
    pub(crate) timeout: Duration,
    /// What channels keep.
    pub(crate) retention: Retention,
}

/// A connection for commands, and the run id of the server it leads to.
pub(crate) struct Connection {
    pub(crate) redis: MultiplexedConnection,
    pub(super) run: String,
}

/// Why a gap is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GapReason {
    /// The server may have restarted: recorded if the last gap has another run id.
    Check,
    /// Messages were published to another server, the last one that long ago: recorded if the last
    /// gap is not younger.
    Moved(Duration),
    /// Messages were dropped: always recorded.
    Mark,
}

impl Connection {
    /// Fails if the server has become a replica.
    pub(crate) async fn check_master(&self) -> Result<(), RedisError> {
        let mut info = redis::cmd("INFO");
        let info: String = info
            .arg("replication")
            .query_async(&mut self.redis.clone())
            .await?;
        check_role(&info)
    }
}

impl Server {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, InvalidConfig> {
        let info = config.check()?;
        // Without nodelay a small command may wait 40 ms for the reply to the one before.
        let tcp = TcpSettings::default().set_nodelay(true);
        let settings = info.redis_settings().clone();
        let settings = settings.set_protocol(ProtocolVersion::RESP2);
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        Ok(Self {
            client: Client::open(info).map_err(|_| InvalidConfig::Url)?,
            keys: keys::Shared::new(&config.prefix),
            prefix: config.prefix.clone(),
            timeout: config.timeout,
            retention: config.retention,
        })
    }

    /// Connects for commands. If the server restarted, or is another one, since the last gap was
    /// recorded, that is a gap and is recorded.
    pub(crate) async fn connect(&self) -> Result<Connection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let client = &self.client;
        let mut redis = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let info = redis::cmd("INFO").arg("server").arg("replication").clone();
        let info: String = info.query_async(&mut redis).await?;
        check_version(&info)?;
        check_role(&info)?;
        let run = info_field(&info, "run_id:").ok_or_else(|| value::unexpected("INFO"))?;
        let run = run.to_owned();
        let connection = Connection { redis, run };
        self.gap(&connection, GapReason::Check).await?;
        Ok(connection)
    }

    /// Connects for pub/sub.
    pub(crate) async fn connect_pubsub(&self) -> Result<(PubSubSink, PubSubStream), RedisError> {
        let pubsub = self.within(self.client.get_async_pubsub()).await?;
        Ok(pubsub.split())
    }

    /// Records a gap if there is a reason to. Returns when what is published next lies after it.
    pub(crate) async fn gap(
        &self,
        connection: &Connection,
        reason: GapReason,
    ) -> Result<StreamId, RedisError> {
        let mut call = script::GAP.key(self.keys.gaps.as_str());
        call.arg(connection.run.as_str());
        match reason {
            GapReason::Check => call.arg("check"),
            GapReason::Moved(since) => call
                .arg("moved")
                .arg(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            GapReason::Mark => call.arg("mark"),
        };
        let (id, now): (redis::Value, u64) =
            call.invoke_async(&mut connection.redis.clone()).await?;
        let id = value::id(id)?;
        if is_now(id, now) {
            tokio::time::sleep(Duration::from_millis(id.ms - now + 2)).await;
        }
        Ok(id)
    }

    /// Says that these channels are listened to, and returns since when each has been, in
    /// milliseconds.
    pub(crate) async fn listen(
        &self,
        connection: &Connection,
        channels: &[Arc<str>],
    ) -> Result<Vec<u64>, RedisError> {
        let mut call = script::LISTEN.arg(self.retention.listened_ms());
        for channel in channels {
            call.key(keys::listened(channel));
        }
        call.invoke_async(&mut connection.redis.clone()).await
    }

    /// Waits no longer than a command may take.
    pub(crate) async fn within<T>(
        &self,
        future: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        match tokio::time::timeout(self.timeout, future).await {
            Ok(result) => result,
            Err(_) => Err((ErrorKind::Io, "timed out").into()),
        }
    }
}

/// The first version whose scripts report which error of the server's state they met, and so
/// whether one message is refused or all are; older ones do not report whether a channel was
/// trimmed either.
const OLDEST: u32 = 7;

/// Refuses a server that is too old. A server without a version is accepted.
fn check_version(info: &str) -> Result<(), RedisError> {
    let Some(version) = info_field(info, "redis_version:") else {
        return Ok(());
    };
    let major = version.split('.').next().and_then(|n| n.parse().ok());
    if major.is_none_or(|major: u32| major >= OLDEST) {
        return Ok(());
    }
    let detail = format!("this is Redis {version}, and live delivery needs {OLDEST} or newer");
    Err((ErrorKind::Client, "too old", detail).into())
}

/// Refuses a replica: after a failover the address may lead to the old master for a while.
fn check_role(info: &str) -> Result<(), RedisError> {
    if info_field(info, "role:") == Some("slave") {
        return Err((ErrorKind::Io, "this Redis is a replica, and no master").into());
    }
    Ok(())
}

/// The value of that field of `INFO`.
fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// Whether the gap is of this very moment, so that no new id would lie after it. A clock that was
/// set back by more than a little is not waited for.
pub(crate) fn is_now(gap: StreamId, now_ms: u64) -> bool {
    now_ms <= gap.ms && gap.ms - now_ms < 20
}

/// Whether the server is not, or not yet, the one to talk to: no master any more, still loading, or
/// no longer authenticated with. A new connection may lead to the right one.
fn is_displaced(error: &RedisError) -> bool {
    matches!(
        error.code(),
        Some("READONLY" | "LOADING" | "MASTERDOWN" | "NOAUTH")
    )
}

/// The error as the port reports it: the server does not answer, or it refuses. The connection is
/// made again after the first.
pub(crate) fn failure(error: &RedisError) -> LiveError {
    let refuses = matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed
    );
    if refuses && !is_displaced(error) {
        LiveError::Refused(error.to_string())
    } else {
        LiveError::Unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_refused_by_its_version() {
        let info = |version: &str| format!("# Server\r\nredis_version:{version}\r\nrun_id:x\r\n");
        for old in ["6.2.14", "5.0.0", "2.8"] {
            let error = check_version(&info(old)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(old) && text.contains("7 or newer"), "{text}");
            assert!(matches!(failure(&error), LiveError::Unavailable(_)));
        }
        for good in ["7.0.0", "7.2.4", "8.0.1", "10.1", "unstable"] {
            assert!(check_version(&info(good)).is_ok(), "{good}");
        }
        assert!(check_version("# Server\r\nrun_id:x\r\n").is_ok());
    }

    #[test]
    fn a_server_that_is_not_the_master_now_is_left() {
        let answer = |code: &str| {
            let error = redis::make_extension_error(code.to_owned(), Some("x".to_owned()));
            failure(&error)
        };
        for gone in ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH"] {
            assert!(matches!(answer(gone), LiveError::Unavailable(_)), "{gone}");
        }
        for refused in ["OOM", "NOPERM", "MISCONF", "ERR"] {
            assert!(
                matches!(answer(refused), LiveError::Refused(_)),
                "{refused}"
            );
        }
        assert!(check_role("role:slave\r\n").is_err());
        assert!(check_role("role:master\r\n").is_ok());
    }
}
