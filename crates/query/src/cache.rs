//! Answers that many ask for, kept for a moment: in Redis where it is configured, for all processes, else
//! in this one.
//!
//! Invariants, stated as absences: nothing is older than its time to live, counted from the begin of its
//! load; no two loads of one answer at a time; no answer is lost with Redis; what is kept has a bound in
//! bytes.

mod shared;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::TenantId;
use live::redis::RedisConfig;
use service::Problem;
use tokio::sync::Mutex as Turn;
use uuid::Uuid;

use crate::metrics::CacheMetrics;
use shared::{Found, Shared};

/// How often what is out of date is removed from memory.
const SWEEP: Duration = Duration::from_millis(250);
/// How long another process' load is waited for.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is looked whether that is done.
const LOOK: Duration = Duration::from_millis(10);

/// The cache; clones are the same one.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    shared: Option<Shared>,
    max_bytes: usize,
    kept: Mutex<Memory>,
    metrics: CacheMetrics,
}

struct Memory {
    slots: HashMap<Uuid, Slot>,
    bytes: usize,
    swept: Instant,
}

struct Slot {
    /// Who has it loads; who waits for it takes what was loaded meanwhile.
    turn: Arc<Turn<Option<Loaded>>>,
    bytes: usize,
    until: Instant,
}

/// What a load gave, an error included: those who waited for it do not all try again.
struct Loaded {
    answer: Result<Bytes, Problem>,
    ended: Instant,
    /// When it is too old; of an answer of Redis, and of an error, at once.
    until: Instant,
}

/// Which answer, and for how long it may be kept.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The metric's label.
    what: &'static str,
    id: Uuid,
    ttl: Duration,
}

impl Key {
    /// The answer about that tenant under these conditions; `what` names the kind of answer.
    #[must_use]
    pub fn new(
        what: &'static str,
        tenant: &TenantId,
        conditions: &[&dyn std::fmt::Debug],
        ttl: Duration,
    ) -> Self {
        let text = format!("cache {what} {conditions:?}");
        Self {
            what,
            id: Uuid::new_v5(&tenant.namespace(), text.as_bytes()),
            ttl,
        }
    }
}

impl Cache {
    /// One that shares its answers through Redis, if there is one, with the processes that name the same
    /// `database`. Connects when it is first used.
    #[must_use]
    pub fn new(
        redis: Option<&RedisConfig>,
        database: &str,
        max_bytes: usize,
        metrics: CacheMetrics,
    ) -> Self {
        let kept = Memory {
            slots: HashMap::new(),
            bytes: 0,
            swept: Instant::now(),
        };
        Self(Arc::new(Inner {
            shared: redis.and_then(|redis| Shared::new(redis, database)),
            max_bytes,
            kept: Mutex::new(kept),
            metrics,
        }))
    }

    /// The answer, as it is kept or else loaded.
    ///
    /// # Errors
    /// Those of the load.
    pub async fn get(
        &self,
        key: Key,
        load: impl AsyncFn() -> Result<Vec<u8>, Problem>,
    ) -> Result<Bytes, Problem> {
        if key.ttl.is_zero() {
            return load().await.map(Bytes::from);
        }
        let arrived = Instant::now();
        let turn = self.turn(key.id);
        let mut loaded = turn.lock().await;
        if let Some(loaded) = loaded.as_ref()
            && (loaded.until > Instant::now() || loaded.ended >= arrived)
        {
            self.count(key, "hit");
            return loaded.answer.clone();
        }
        let (answer, until) = self.load(key, load).await;
        self.keep(key.id, answer.as_ref().map_or(0, Bytes::len), until);
        *loaded = Some(Loaded {
            answer: answer.clone(),
            ended: Instant::now(),
            until,
        });
        answer
    }

    /// From Redis or from where it comes, and until when this process may give it again.
    async fn load(
        &self,
        key: Key,
        load: impl AsyncFn() -> Result<Vec<u8>, Problem>,
    ) -> (Result<Bytes, Problem>, Instant) {
        let shared = self.0.shared.as_ref().filter(|shared| shared.is_up());
        let mut leads = None;
        if let Some(shared) = shared {
            let deadline = Instant::now() + TIMEOUT;
            loop {
                match shared.look(key.id).await {
                    Ok(Found::Answer(bytes)) => {
                        self.count(key, "shared");
                        return (Ok(bytes), Instant::now());
                    }
                    Ok(Found::Nothing) => leads = Some(shared),
                    Ok(Found::Loading) if Instant::now() < deadline => {
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    Ok(Found::Loading) => {}
                    Err(error) => {
                        self.0.metrics.errors.inc();
                        tracing::debug!(%error, "the cache in Redis is not used now");
                    }
                }
                break;
            }
        }
        self.count(key, "miss");
        let until = Instant::now() + key.ttl;
        let answer = load().await.map(Bytes::from);
        if let Some(shared) = leads {
            let left = until.saturating_duration_since(Instant::now());
            let kept = answer.as_ref().ok().map(|bytes| (bytes, left));
            if shared.put(key.id, kept).await.is_ok() {
                return (answer, Instant::now());
            }
            self.0.metrics.errors.inc();
        }
        let until = if answer.is_ok() {
            until
        } else {
            Instant::now()
        };
        (answer, until)
    }

    fn turn(&self, id: Uuid) -> Arc<Turn<Option<Loaded>>> {
        let mut memory = self.memory();
        let slot = memory.slots.entry(id).or_insert_with(|| Slot {
            turn: Arc::default(),
            bytes: 0,
            until: Instant::now(),
        });
        Arc::clone(&slot.turn)
    }

    /// Notes what a slot has; one that there is no room for is forgotten.
    fn keep(&self, id: Uuid, bytes: usize, until: Instant) {
        let now = Instant::now();
        let mut guard = self.memory();
        let memory = &mut *guard;
        if memory.swept + SWEEP < now {
            memory.swept = now;
            let is_used = |slot: &Slot| slot.until > now || Arc::strong_count(&slot.turn) > 1;
            memory.slots.retain(|_, slot| is_used(slot));
            memory.bytes = memory.slots.values().map(|slot| slot.bytes).sum();
        }
        let others = memory.bytes - memory.slots.get(&id).map_or(0, |slot| slot.bytes);
        if others + bytes > self.0.max_bytes {
            memory.slots.remove(&id);
            memory.bytes = others;
        } else if let Some(slot) = memory.slots.get_mut(&id) {
            (slot.bytes, slot.until) = (bytes, until);
            memory.bytes = others + bytes;
        }
        let gauge = i64::try_from(memory.bytes).unwrap_or(i64::MAX);
        self.0.metrics.bytes.set(gauge);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, key: Key, result: &str) {
        let counter = self
            .0
            .metrics
            .answers
            .with_label_values(&[key.what, result]);
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn cache(max_bytes: usize) -> Cache {
        let metrics = CacheMetrics::register(&prometheus::Registry::new()).unwrap();
        Cache::new(None, "", max_bytes, metrics)
    }

    fn key(n: usize, ttl: Duration) -> Key {
        Key::new("test", &TenantId::default(), &[&n], ttl)
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn of_many_who_ask_one_loads() {
        let (cache, loads) = (cache(1_000), AtomicUsize::new(0));
        let load = async || {
            loads.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(b"answer".to_vec())
        };
        let asks = (0..200).map(|_| cache.get(key(0, LONG), load));
        for answer in futures_util::future::join_all(asks).await {
            assert_eq!(answer.unwrap(), "answer");
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        // Without a time to live nothing is shared.
        cache.get(key(0, Duration::ZERO), load).await.unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn an_error_is_told_to_all_who_waited_and_not_kept() {
        let (cache, loads) = (cache(1_000), AtomicUsize::new(0));
        let fail = async || {
            loads.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err(Problem::unavailable("down", 1))
        };
        let asks = (0..50).map(|_| cache.get(key(0, LONG), fail));
        let answers = futures_util::future::join_all(asks).await;
        assert!(answers.iter().all(Result::is_err));
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        let answer = cache.get(key(0, LONG), async || Ok(vec![1])).await;
        assert_eq!(answer.unwrap(), vec![1]);
    }

    #[tokio::test]
    async fn what_has_no_room_is_loaded_again() {
        let (cache, loads) = (cache(10), AtomicUsize::new(0));
        let load = async || {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok(vec![0; 6])
        };
        for n in [0, 0, 1, 1] {
            cache.get(key(n, LONG), load).await.unwrap();
        }
        assert_eq!(loads.load(Ordering::SeqCst), 3);
        assert_eq!(cache.0.metrics.bytes.get(), 6);
    }

    #[tokio::test]
    async fn one_who_leaves_while_loading_leaves_it_to_the_next() {
        let cache = cache(1_000);
        let never = async || std::future::pending().await;
        let left = tokio::time::timeout(Duration::from_millis(10), cache.get(key(0, LONG), never));
        assert!(left.await.is_err());
        let answer = cache.get(key(0, LONG), async || Ok(vec![1])).await;
        assert_eq!(answer.unwrap(), vec![1]);
    }
}
