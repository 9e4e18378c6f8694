//! The part of the cache that all processes share: answers in Redis, and who loads one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use live::redis::RedisConfig;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, SetExpiry, SetOptions};
use uuid::Uuid;

/// A Redis that failed is not asked for so long.
const REST: Duration = Duration::from_secs(1);
/// Longest time of a command: PostgreSQL gives the answer, so Redis is not waited for.
const LIMIT: Duration = Duration::from_millis(250);
/// One who loads is believed to be at it for so long.
const LOADING_MS: u64 = 1_000;

pub(super) struct Shared {
    client: Client,
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    rests_until: Option<Instant>,
}

/// What Redis has.
pub(super) enum Found {
    Answer(Bytes),
    /// Nothing, and the caller is to load it.
    Nothing,
    /// Another process loads it.
    Loading,
}

impl Shared {
    pub(super) fn new(config: &RedisConfig, database: &str) -> Option<Self> {
        let client = Client::open(config.url.expose()).ok()?;
        // Of two installations on one Redis each has its own.
        let whose = Uuid::new_v5(&Uuid::NAMESPACE_OID, database.as_bytes()).simple();
        Some(Self {
            client,
            prefix: format!("tidegate:cache:{whose}:"),
            state: Mutex::default(),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .rests_until
            .is_none_or(|until| until <= Instant::now())
    }

    pub(super) async fn look(&self, id: Uuid) -> Result<Found, RedisError> {
        let (key, loading) = self.keys(id);
        self.run(async |mut redis| {
            let get = redis::cmd("GET").arg(&key).clone();
            if let Some(bytes) = get.query_async::<Option<Vec<u8>>>(&mut redis).await? {
                return Ok(Found::Answer(bytes.into()));
            }
            let mut lead = redis::cmd("SET");
            let options = SetOptions::default()
                .conditional_set(redis::ExistenceCheck::NX)
                .with_expiration(SetExpiry::PX(LOADING_MS));
            lead.arg(&loading).arg(1).arg(options);
            if lead
                .query_async::<Option<String>>(&mut redis)
                .await?
                .is_none()
            {
                return Ok(Found::Loading);
            }
            // Who loaded before may have ended between the two.
            let bytes = get.query_async::<Option<Vec<u8>>>(&mut redis).await?;
            Ok(bytes.map_or(Found::Nothing, |bytes| Found::Answer(bytes.into())))
        })
        .await
    }

    /// Ends a load: with its answer and for how long it is good, or without.
    pub(super) async fn put(
        &self,
        id: Uuid,
        answer: Option<(&Bytes, Duration)>,
    ) -> Result<(), RedisError> {
        let (key, loading) = self.keys(id);
        let mut both = redis::pipe();
        if let Some((bytes, left)) = answer
            && let Ok(left @ 1..) = u64::try_from(left.as_millis())
        {
            let set = both.cmd("SET").arg(&key).arg(&bytes[..]);
            set.arg(SetOptions::default().with_expiration(SetExpiry::PX(left)));
            set.ignore();
        }
        both.cmd("DEL").arg(&loading).ignore();
        self.run(async |mut redis| both.query_async::<()>(&mut redis).await)
            .await
    }

    fn keys(&self, id: Uuid) -> (String, String) {
        let key = format!("{}{}", self.prefix, id.simple());
        let loading = format!("{key}:loading");
        (key, loading)
    }

    async fn run<T>(
        &self,
        work: impl AsyncFnOnce(MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let state = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let known = state().connection.clone();
        let done = async {
            let connection = match known {
                Some(connection) => connection,
                None => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(LIMIT))
                        .set_response_timeout(Some(LIMIT));
                    let client = &self.client;
                    let made = client.get_multiplexed_async_connection_with_config(&config);
                    let made = made.await?;
                    state().connection = Some(made.clone());
                    made
                }
            };
            work(connection).await
        }
        .await;
        if done.is_err() {
            *state() = State {
                connection: None,
                rests_until: Some(Instant::now() + REST),
            };
        }
        done
    }
}
