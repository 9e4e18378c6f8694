//! Connecting, and noticing that the server is not the one it was.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, ErrorKind, ProtocolVersion, RedisError};

use super::config::{InvalidConfig, RedisConfig};
use super::script;
use super::value;
use crate::LiveError;
use crate::id::StreamId;

/// The Redis of these channels, and what things are called there.
pub(crate) struct Server {
    client: Client,
    prefix: String,
    /// Stream of gaps.
    pub(crate) gaps: String,
    /// Hash of positions.
    pub(crate) positions: String,
    /// How long a command may take.
    pub(crate) timeout: Duration,
    /// How long a quiet channel is kept.
    pub(crate) ttl_ms: u64,
}

/// A connection for commands, and the run of the server it leads to.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) connection: MultiplexedConnection,
    run: String,
}

impl Server {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, InvalidConfig> {
        let info = config.check()?;
        // Without nodelay a small command may wait 40 ms for the answer to the one before.
        let tcp = TcpSettings::default().set_nodelay(true);
        let settings = info.redis_settings().clone();
        let settings = settings.set_protocol(ProtocolVersion::RESP2);
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        Ok(Self {
            client: Client::open(info).map_err(|_| InvalidConfig::Url)?,
            gaps: script::gaps_key(&config.prefix),
            positions: script::positions_key(&config.prefix),
            prefix: config.prefix.clone(),
            timeout: config.timeout,
            ttl_ms: config.ttl_seconds * 1_000,
        })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Connects for commands. If the server was started anew, or is another one, since the last gap
    /// was noted, that is a gap and is noted.
    pub(crate) async fn connect(&self) -> Result<Link, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let client = &self.client;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let info = redis::cmd("INFO").arg("server").clone();
        let info: String = info.query_async(&mut connection).await?;
        usable(&info)?;
        let run = said(&info, "run_id:").ok_or_else(|| value::unexpected("INFO"))?;
        let run = run.to_owned();
        let mut link = Link { connection, run };
        self.gap(&mut link, "check").await?;
        Ok(link)
    }

    /// Connects for pub/sub.
    pub(crate) async fn connect_pubsub(&self) -> Result<(PubSubSink, PubSubStream), RedisError> {
        let pubsub = self.within(self.client.get_async_pubsub()).await?;
        Ok(pubsub.split())
    }

    /// Notes a gap; with `check`, only if the server's run is another than at the last one. Comes
    /// back when what is published next lies after it.
    pub(crate) async fn gap(&self, link: &mut Link, reason: &str) -> Result<StreamId, RedisError> {
        let mut call = script::GAP.key(self.gaps.as_str());
        call.arg(link.run.as_str()).arg(reason);
        let (id, now): (String, u64) = call.invoke_async(&mut link.connection).await?;
        let id = StreamId::parse(&id).ok_or_else(|| value::unexpected("gap"))?;
        if is_now(id, now) {
            tokio::time::sleep(Duration::from_millis(id.ms - now + 2)).await;
        }
        Ok(id)
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

/// The first version whose scripts say which error of the server's state they met, and so whether
/// one message is refused or all are; older ones cannot tell a trimmed channel either.
const OLDEST: u32 = 7;

/// Refuses a server that is too old. One that does not say its version is tried.
fn usable(info: &str) -> Result<(), RedisError> {
    let Some(version) = said(info, "redis_version:") else {
        return Ok(());
    };
    let major = version.split('.').next().and_then(|n| n.parse().ok());
    if major.is_none_or(|major: u32| major >= OLDEST) {
        return Ok(());
    }
    let detail = format!("this is Redis {version}, and live delivery needs {OLDEST} or newer");
    Err((ErrorKind::Client, "too old", detail).into())
}

/// What `INFO` says under that name.
fn said<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// Whether the gap is of this very moment, so that nothing can be told to lie after it. A clock that
/// was set back further than a little is not waited for.
pub(crate) fn is_now(gap: StreamId, now_ms: u64) -> bool {
    now_ms <= gap.ms && gap.ms - now_ms < 20
}

/// An error as seen from outside: whether the server is away, or refuses.
pub(crate) fn failure(error: &RedisError) -> LiveError {
    let refuses = matches!(
        error.kind(),
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed
    );
    if refuses {
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
            let error = usable(&info(old)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(old) && text.contains("7 or newer"), "{text}");
            assert!(matches!(failure(&error), LiveError::Unavailable(_)));
        }
        for good in ["7.0.0", "7.2.4", "8.0.1", "10.1", "unstable"] {
            assert!(usable(&info(good)).is_ok(), "{good}");
        }
        assert!(usable("# Server\r\nrun_id:x\r\n").is_ok());
    }
}
