//! Live channels within one process, under the same rules as those in Redis.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

pub use crate::config::LocalConfig;
use crate::fence::Reached;
use crate::id::{Resume, StreamId};
use crate::listeners::{Listeners, Phase};
use crate::message::{Channel, Entry, Outcome, Publication};
use crate::queue::{Queue, lock};
use crate::resume::{History, Kept, decide};
use crate::seen::Seen;
use crate::subscription::{Batch, Delivery, Home, Reset, Subscription};
use crate::{BoxFuture, Channels, LiveError};

/// Any prefix keeps the tenants apart; this one is what Redis has by default.
const PREFIX: &str = "sse:user:";

/// Messages of history given to a listener at a time.
const CHUNK: usize = 256;

/// How often channels nobody uses any more are looked for, in milliseconds.
const SWEEP_MS: u64 = 10_000;

type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Channels in memory. What was published before the process started is a gap.
#[derive(Clone)]
pub struct LocalChannels {
    shared: Arc<Shared>,
    /// Ends the listeners with the last handle.
    _end: Arc<End>,
}

impl LocalChannels {
    /// Empty channels.
    #[must_use]
    pub fn new(config: LocalConfig) -> Self {
        Self::with_clock(config, || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
        })
    }

    /// The same by another clock: milliseconds since the Unix epoch.
    #[must_use]
    pub fn with_clock(
        config: LocalConfig,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let clock: Clock = Arc::new(clock);
        let mut state = State {
            config,
            rings: HashMap::new(),
            reached: HashMap::new(),
            seen: Seen::new(config.dedup_ms),
            order: VecDeque::new(),
            bytes: 0,
            last: StreamId::default(),
            gap: StreamId::default(),
            forgotten: StreamId::default(),
            next_listener: 0,
            swept_ms: clock(),
        };
        state.mark_gap(clock());
        let shared = Arc::new(Shared {
            clock,
            state: Mutex::new(state),
        });
        Self {
            _end: Arc::new(End(Arc::clone(&shared))),
            shared,
        }
    }
}

impl fmt::Debug for LocalChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalChannels").finish_non_exhaustive()
    }
}

impl Channels for LocalChannels {
    fn publish<'a>(
        &'a self,
        publications: &'a [Publication],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, LiveError>> {
        Box::pin(async move {
            let now = (self.shared.clock)();
            let mut state = lock(&self.shared.state);
            let outcomes = publications
                .iter()
                .map(|publication| state.publish(publication, now));
            let outcomes = outcomes.collect();
            state.sweep(now);
            Ok(outcomes)
        })
    }

    fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>> {
        Box::pin(async move {
            let now = (self.shared.clock)();
            Ok(lock(&self.shared.state).mark_gap(now))
        })
    }

    fn subscribe(&self, channel: Channel, resume: Resume, queue_bytes: usize) -> Subscription {
        let key: Arc<str> = channel.key(PREFIX).into();
        let queue = Arc::new(Queue::new(queue_bytes));
        let now = (self.shared.clock)();
        let mut state = lock(&self.shared.state);
        let listener = state.subscribe(&key, resume, Arc::clone(&queue), now);
        drop(state);
        let home = Arc::clone(&self.shared) as Arc<dyn Home>;
        Subscription::new(home, key, listener, queue)
    }

    fn connected(&self) -> bool {
        true
    }
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

impl Home for Shared {
    fn more(&self, key: &Arc<str>, listener: u64) {
        let now = (self.clock)();
        lock(&self.state).catch_up(key, listener, now);
    }

    fn leave(&self, key: &Arc<str>, listener: u64) {
        if let Some(ring) = lock(&self.state).rings.get_mut(key) {
            ring.listeners.leave(listener);
        }
    }
}

struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        for ring in lock(&self.0.state).rings.values_mut() {
            ring.listeners.close();
        }
    }
}

struct State {
    config: LocalConfig,
    rings: HashMap<Arc<str>, Ring>,
    reached: HashMap<Arc<str>, Reached>,
    seen: Seen,
    /// Every message kept, the oldest first; those gone already are skipped.
    order: VecDeque<(StreamId, Arc<str>)>,
    bytes: usize,
    /// The last id given out: they rise over all channels, whatever the clock does.
    last: StreamId,
    gap: StreamId,
    /// The latest message that expired, of whatever channel.
    forgotten: StreamId,
    next_listener: u64,
    swept_ms: u64,
}

/// One channel. Everyone live has all of it.
#[derive(Default)]
struct Ring {
    /// Each message is a batch of its own, so that listeners share what is kept.
    kept: VecDeque<Arc<Batch>>,
    trimmed: bool,
    /// When the last message came, even if it is gone.
    newest_ms: u64,
    /// How old the cursors of its listeners can be.
    told_ms: u64,
    listeners: Listeners,
}

impl Ring {
    fn first(&self) -> Option<StreamId> {
        self.kept.front().map(|batch| id_of(batch))
    }

    fn last(&self) -> Option<StreamId> {
        self.kept.back().map(|batch| id_of(batch))
    }

    /// The oldest message goes; gives its bytes.
    fn pop(&mut self) -> usize {
        self.trimmed = true;
        self.kept.pop_front().map_or(0, |batch| batch.size())
    }

    /// Where the first message after that id is.
    fn after(&self, id: StreamId) -> usize {
        self.kept.partition_point(|batch| id_of(batch) <= id)
    }

    /// Forgets everything if it was quiet for too long; gives the bytes.
    fn expire(&mut self, now_ms: u64, ttl_ms: u64, forgotten: &mut StreamId) -> usize {
        if now_ms.saturating_sub(self.newest_ms) < ttl_ms {
            return 0;
        }
        *forgotten = self.last().map_or(*forgotten, |last| last.max(*forgotten));
        self.trimmed = false;
        self.kept.drain(..).map(|batch| batch.size()).sum()
    }

    /// Whether it is known at all.
    fn exists(&self) -> bool {
        self.trimmed || !self.kept.is_empty()
    }
}

fn id_of(batch: &Batch) -> StreamId {
    batch
        .entries()
        .first()
        .map_or(StreamId::default(), |entry| entry.id)
}

impl State {
    fn publish(&mut self, publication: &Publication, now: u64) -> Outcome {
        if let Some(position) = &publication.position {
            let reached = self.reached.get(&position.partition).copied();
            let Some(reached) = Reached::advance(reached, position) else {
                return Outcome::Duplicate;
            };
            self.reached
                .insert(Arc::clone(&position.partition), reached);
        }
        let key = publication.channel.key(PREFIX);
        let key: Arc<str> = match self.rings.get_key_value(key.as_str()) {
            Some((key, _)) => Arc::clone(key),
            None => key.into(),
        };
        if !self.seen.first(publication.event_id, &key, now) {
            return Outcome::Duplicate;
        }
        let id = self.next_id(now);
        let batch = Arc::new(Batch::new(vec![Entry {
            id,
            message: publication.message.clone(),
        }]));
        self.bytes += batch.size();
        self.order.push_back((id, Arc::clone(&key)));
        let ring = self.rings.entry(key).or_default();
        self.bytes -= ring.expire(now, self.config.ttl_ms, &mut self.forgotten);
        ring.kept.push_back(Arc::clone(&batch));
        ring.newest_ms = id.ms;
        ring.told_ms = id.ms;
        while ring.kept.len() > self.config.maxlen.max(1) {
            self.bytes -= ring.pop();
        }
        ring.listeners.tell(&Delivery::Messages(batch));
        self.trim();
        Outcome::Published(id)
    }

    fn next_id(&mut self, now: u64) -> StreamId {
        self.last = if now > self.last.ms {
            StreamId { ms: now, seq: 0 }
        } else {
            StreamId {
                ms: self.last.ms,
                seq: self.last.seq + 1,
            }
        };
        self.last
    }

    /// Keeps to the limit in bytes. The newest message stays, however large.
    fn trim(&mut self) {
        while self.bytes > self.config.max_bytes && self.order.len() > 1 {
            let Some((id, key)) = self.order.pop_front() else {
                return;
            };
            if let Some(ring) = self.rings.get_mut(&key)
                && ring.first() == Some(id)
            {
                self.bytes -= ring.pop();
            }
        }
    }

    /// Forgets what has expired, now and then: nobody may ever ask for it again. And gives the
    /// listeners of quiet channels a fresher cursor.
    fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now;
        let place = StreamId::before(now.max(self.last.ms));
        let Self {
            rings,
            bytes,
            config,
            order,
            forgotten,
            ..
        } = self;
        rings.retain(|_, ring| {
            *bytes -= ring.expire(now, config.ttl_ms, forgotten);
            if !ring.listeners.is_empty() && now.saturating_sub(ring.told_ms) > config.ttl_ms / 4 {
                ring.told_ms = now;
                ring.listeners.tell(&Delivery::Begun { cursor: place });
            }
            ring.exists() || !ring.listeners.is_empty()
        });
        order.retain(|(id, key)| {
            let first = rings.get(key).and_then(Ring::first);
            first.is_some_and(|first| first <= *id)
        });
    }

    /// Everything so far lies before it, everything later after it.
    fn mark_gap(&mut self, now: u64) -> StreamId {
        let ms = now.max(self.last.ms);
        self.gap = StreamId { ms, seq: u64::MAX };
        self.last = StreamId { ms: ms + 1, seq: 0 };
        let reset = Delivery::Reset {
            reason: Reset::Gap,
            cursor: self.gap,
        };
        for ring in self.rings.values_mut() {
            ring.listeners.tell(&reset);
        }
        self.gap
    }

    fn subscribe(&mut self, key: &Arc<str>, resume: Resume, queue: Arc<Queue>, now: u64) -> u64 {
        self.next_listener += 1;
        let listener = self.next_listener;
        let ring = self.rings.entry(Arc::clone(key)).or_default();
        if ring.listeners.is_empty() {
            ring.told_ms = now;
        }
        ring.listeners.join(listener, resume, queue);
        self.catch_up(key, listener, now);
        self.sweep(now);
        listener
    }

    /// Starts a listener, or gives it what comes next.
    fn catch_up(&mut self, key: &Arc<str>, listener: u64, now: u64) {
        let Some(ring) = self.rings.get_mut(key) else {
            return;
        };
        self.bytes -= ring.expire(now, self.config.ttl_ms, &mut self.forgotten);
        let now = now.max(self.last.ms);
        let (resume, starting) = match ring.listeners.phase(listener) {
            Some(Phase::Starting(resume)) => (resume, true),
            Some(Phase::Behind(after)) => (Resume::After(after), false),
            Some(Phase::Live) | None => return,
        };
        let kept = ring.exists().then(|| Kept {
            first: ring.first(),
            trimmed: ring.trimmed,
            has: match resume {
                Resume::After(id) => {
                    let at = ring.after(id);
                    at > 0
                        && ring
                            .kept
                            .get(at - 1)
                            .is_some_and(|batch| id_of(batch) == id)
                }
                _ => false,
            },
        });
        // Nothing at all has expired since: then a quiet channel is just that.
        let whole = matches!(resume, Resume::After(after) if after >= self.forgotten);
        let history = History {
            now_ms: now,
            ttl_ms: if whole { u64::MAX } else { self.config.ttl_ms },
            gap: self.gap,
            kept,
            late: false,
        };
        let decision = decide(resume, &history);
        if starting || decision.is_err() {
            let head = ring.last().filter(|last| *last > self.gap);
            let cursor = head.unwrap_or_else(|| StreamId::before(now));
            ring.listeners.start(listener, decision, cursor);
        }
        if let Ok(Some(after)) = decision {
            let from = ring.after(after);
            let chunk = ring.kept.range(from..).take(CHUNK).cloned();
            let all = ring.kept.len() - from <= CHUNK;
            let end = ring.kept.get(from + CHUNK - 1);
            let end = end.map_or(after, |batch| id_of(batch));
            ring.listeners.catch_up(listener, chunk, end, all);
        }
    }
}
