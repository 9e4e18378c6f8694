//! Settings of the channels in Redis.

use std::time::Duration;

use config::{Env, Secret};
use redis::{ConnectionInfo, IntoConnectionInfo as _};

use super::keys;
use crate::config::Retention;

/// How to reach Redis and what to keep there.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis[s]://[user:password@]host:port/database`. `REDIS_URL`.
    pub url: Secret,
    /// What the key of a user's channel begins with (S2-48). `SSE_PREFIX`.
    pub prefix: String,
    /// What each channel keeps.
    pub retention: Retention,
    /// How long a command, or a connection attempt, may take. `REDIS_TIMEOUT_MS`.
    pub timeout: Duration,
}

/// Why the channels cannot be used as configured. Never shows the URL: it may have a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// The URL cannot be read.
    #[error("REDIS_URL: expected {URL_RULE}")]
    Url,
    /// Keys of different meaning could be the same.
    #[error("SSE_PREFIX: expected {PREFIX_RULE}")]
    Prefix,
}

const URL_RULE: &str = "redis[s]://[user:password@]host[:port][/database]";

const PREFIX_RULE: &str = "a text that is neither empty nor the beginning of \"tenant:\" or of the names of Tidegate's own keys";

impl RedisConfig {
    /// Reads it from the environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let url: String = env.get(
            &["REDIS_URL"],
            "redis://127.0.0.1:6379/0",
            "Redis for live delivery: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS, whose certificate an authority of the system (or of SSL_CERT_FILE) has to have signed.",
        );
        let config = Self {
            url: Secret::new(url),
            prefix: env.get(
                &["SSE_PREFIX"],
                "sse:user:",
                "What the key of a user's channel in Redis begins with.",
            ),
            retention: Retention::from_env(env),
            timeout: Duration::from_millis(env.get_in(
                &["REDIS_TIMEOUT_MS"],
                1_000,
                50..=60_000,
                "How long a command to Redis, or connecting to it, may take.",
            )),
        };
        match config.check() {
            Ok(_) => {}
            Err(InvalidConfig::Url) => env.complain("REDIS_URL", "***", URL_RULE),
            Err(InvalidConfig::Prefix) => env.complain("SSE_PREFIX", &config.prefix, PREFIX_RULE),
        }
        config
    }

    /// Checks what cannot be checked by type, and reads the URL.
    pub(crate) fn check(&self) -> Result<ConnectionInfo, InvalidConfig> {
        let info = self.url.expose().into_connection_info();
        let info = info.map_err(|_| InvalidConfig::Url)?;
        if !info.addr().is_supported() {
            return Err(InvalidConfig::Url);
        }
        // A user's channel must have a key that no other tenant's user and none of our own has.
        let prefix = self.prefix.as_str();
        let mixed = keys::collide_with(prefix)
            || "tenant:".starts_with(prefix)
            || prefix.starts_with("tenant:");
        if mixed {
            return Err(InvalidConfig::Prefix);
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> (RedisConfig, Result<(), String>) {
        let env = Env::from_map([(name.to_owned(), value.to_owned())].into());
        let config = RedisConfig::from_env(&env);
        let complaint = env.finish().map_err(|error| error.to_string());
        (config, complaint)
    }

    #[test]
    fn the_url_is_never_shown() {
        let (config, complaint) = read("REDIS_URL", "redis://u:hunter2@[nohost");
        let complaint = complaint.unwrap_err();
        assert!(complaint.contains("REDIS_URL"), "{complaint}");
        let error = config.check().unwrap_err();
        for text in [
            complaint,
            format!("{config:?}"),
            format!("{error} {error:?}"),
        ] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_prefix_that_mixes_up_keys_is_refused() {
        for bad in [
            "tenant:",
            "tenant:a:",
            "ten",
            "tidegate:sse:",
            "tidegate:sse:dedup:",
            "tidegate:sse:dedup:x",
            "t",
        ] {
            assert!(read("SSE_PREFIX", bad).1.is_err(), "{bad}");
        }
        for good in ["sse:user:", "tidegate:sse:user:", "x"] {
            assert_eq!(read("SSE_PREFIX", good).1, Ok(()), "{good}");
        }
    }
}
