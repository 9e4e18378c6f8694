//! All channels of the process, without clock and lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::config::Retention;
use crate::dedup_window::DedupWindow;
use crate::delivery::{Batch, Delivery};
use crate::high_water_mark::HighWaterMark;
use crate::id::{Resume, StreamId};
use crate::listeners::{Listeners, Phase};
use crate::message::{Entry, Message, Outcome, Publication};
use crate::queue::Queue;
use crate::resume::{History, Kept, Reset, decide};

/// Any prefix keeps the tenants apart; this one is the default in Redis.
pub(super) const PREFIX: &str = "sse:user:";

/// Messages of history delivered to a listener at a time.
const CHUNK: usize = 256;

/// How often expired channels without listeners are removed, in milliseconds.
const SWEEP_MS: u64 = 10_000;

/// All channels.
pub(super) struct State {
    retention: Retention,
    ttl_ms: u64,
    rings: HashMap<Arc<str>, Ring>,
    /// By partition.
    high_water_marks: HashMap<Arc<str>, HighWaterMark>,
    dedup: DedupWindow,
    /// Every message kept, the oldest first; those removed already are skipped.
    order: VecDeque<(StreamId, Arc<str>)>,
    bytes: usize,
    /// The last id assigned: ids rise over all channels, whatever the clock does.
    last: StreamId,
    gap: StreamId,
    /// The latest message that expired, of any channel.
    expired: StreamId,
    next_listener: u64,
    swept_ms: u64,
}

/// One channel. Listeners that are live have all of it.
#[derive(Default)]
struct Ring {
    /// Each message is a batch of its own, so that listeners share what is kept.
    kept: VecDeque<Arc<Batch>>,
    trimmed: bool,
    /// When the last message came, even if it is removed.
    newest_ms: u64,
    /// How old the cursors of its listeners can be.
    cursor_ms: u64,
    listeners: Listeners,
    /// Messages are kept since then, and until then at least.
    since: StreamId,
    listened_until_ms: u64,
}

impl Ring {
    fn first(&self) -> Option<StreamId> {
        self.kept.front().map(|batch| id_of(batch))
    }

    fn last(&self) -> Option<StreamId> {
        self.kept.back().map(|batch| id_of(batch))
    }

    /// Removes the oldest message; returns its bytes.
    fn pop(&mut self) -> usize {
        self.trimmed = true;
        self.kept.pop_front().map_or(0, |batch| batch.size())
    }

    /// The index of the first message after that id.
    fn after(&self, id: StreamId) -> usize {
        self.kept.partition_point(|batch| id_of(batch) <= id)
    }

    fn has(&self, id: StreamId) -> bool {
        self.kept
            .binary_search_by_key(&id, |batch| id_of(batch))
            .is_ok()
    }

    /// Removes everything if the channel was quiet for too long; returns the bytes.
    fn expire(&mut self, now_ms: u64, ttl_ms: u64, expired: &mut StreamId) -> usize {
        if now_ms.saturating_sub(self.newest_ms) < ttl_ms {
            return 0;
        }
        *expired = self.last().map_or(*expired, |last| last.max(*expired));
        self.trimmed = false;
        self.kept.drain(..).map(|batch| batch.size()).sum()
    }

    /// Whether it has a listener, or had one lately.
    fn is_listened(&self, now_ms: u64) -> bool {
        !self.listeners.is_empty() || now_ms < self.listened_until_ms
    }

    /// Whether it has, or had, messages that have not expired.
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
    pub(super) fn new(retention: Retention, now: u64) -> Self {
        let mut state = Self {
            retention,
            ttl_ms: retention.ttl_seconds * 1_000,
            rings: HashMap::new(),
            high_water_marks: HashMap::new(),
            dedup: DedupWindow::new(retention.dedup_seconds * 1_000),
            order: VecDeque::new(),
            bytes: 0,
            last: StreamId::default(),
            gap: StreamId::default(),
            expired: StreamId::default(),
            next_listener: 0,
            swept_ms: now,
        };
        state.mark_gap(now);
        state
    }

    pub(super) fn publish(&mut self, publication: &Publication, now: u64) -> Outcome {
        let key = publication.channel.key(PREFIX);
        let key: Arc<str> = match self.rings.get_key_value(key.as_str()) {
            Some((key, ring)) if self.retention.keep_all || ring.is_listened(now) => {
                Arc::clone(key)
            }
            _ if self.retention.keep_all => key.into(),
            _ => return Outcome::NoListener,
        };
        if let Some(position) = &publication.position {
            let mark = self.high_water_marks.get(&position.partition).copied();
            let Some(mark) = HighWaterMark::advance(mark, position) else {
                return Outcome::Duplicate;
            };
            self.high_water_marks
                .insert(Arc::clone(&position.partition), mark);
        }
        if !self.dedup.first(publication.event_id, &key, now) {
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
        self.bytes -= ring.expire(now, self.ttl_ms, &mut self.expired);
        if !ring.listeners.is_empty() {
            ring.listened_until_ms = now + self.retention.listened_ms();
        }
        ring.kept.push_back(Arc::clone(&batch));
        ring.newest_ms = id.ms;
        ring.cursor_ms = id.ms;
        while ring.kept.len() > self.retention.maxlen.max(1) {
            self.bytes -= ring.pop();
        }
        ring.listeners.deliver(&Delivery::Messages(batch));
        self.trim();
        Outcome::Published(id)
    }

    /// Sends a message to those who listen to a channel; false if nobody does.
    pub(super) fn send_transient(&self, key: &str, message: &Message) -> bool {
        let ring = self.rings.get(key);
        let Some(ring) = ring.filter(|ring| !ring.listeners.is_empty()) else {
            return false;
        };
        ring.listeners.send_transient(&Arc::new(message.clone()));
        true
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
        while self.bytes > self.retention.max_bytes && self.order.len() > 1 {
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

    /// Removes what has expired, every [`SWEEP_MS`]: no other call may ever touch it. Delivers a
    /// fresher cursor to the listeners of quiet channels.
    pub(super) fn sweep(&mut self, now: u64) {
        if now.saturating_sub(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now;
        let ttl_ms = self.ttl_ms;
        let cursor = StreamId::before(now.max(self.last.ms));
        self.rings.retain(|_, ring| {
            self.bytes -= ring.expire(now, ttl_ms, &mut self.expired);
            if !ring.listeners.is_empty() && now.saturating_sub(ring.cursor_ms) > ttl_ms / 4 {
                ring.cursor_ms = now;
                ring.listeners.deliver(&Delivery::Begun { cursor });
            }
            ring.exists() || ring.is_listened(now)
        });
        self.order.retain(|(id, key)| {
            let first = self.rings.get(key).and_then(Ring::first);
            first.is_some_and(|first| first <= *id)
        });
    }

    /// Everything so far lies before the gap, everything later after it.
    pub(super) fn mark_gap(&mut self, now: u64) -> StreamId {
        let ms = now.max(self.last.ms);
        self.gap = StreamId { ms, seq: u64::MAX };
        self.last = StreamId { ms: ms + 1, seq: 0 };
        let reset = Delivery::Reset {
            reason: Reset::Gap,
            cursor: self.gap,
        };
        for ring in self.rings.values_mut() {
            ring.listeners.deliver(&reset);
        }
        self.gap
    }

    pub(super) fn subscribe(
        &mut self,
        key: &Arc<str>,
        resume: Resume,
        queue: Arc<Queue>,
        now: u64,
    ) -> u64 {
        self.next_listener += 1;
        let listener = self.next_listener;
        let ring = self.rings.entry(Arc::clone(key)).or_default();
        if !self.retention.keep_all && !ring.is_listened(now) {
            ring.since = StreamId::before(now);
        }
        if ring.listeners.is_empty() {
            ring.cursor_ms = now;
        }
        ring.listeners.join(listener, resume, queue);
        self.catch_up(key, listener, now);
        self.sweep(now);
        listener
    }

    pub(super) fn leave(&mut self, key: &str, listener: u64, now: u64) {
        if let Some(ring) = self.rings.get_mut(key) {
            if ring.listeners.phase(listener).is_some() {
                ring.listened_until_ms = now + self.retention.listened_ms();
            }
            ring.listeners.leave(listener);
        }
    }

    /// Removes what is kept of a channel; returns how many messages there were. What is remembered of its
    /// events names nobody but it, and goes with time.
    pub(super) fn erase(&mut self, key: &str) -> usize {
        let Some(ring) = self.rings.get_mut(key) else {
            return 0;
        };
        let messages = ring.kept.len();
        while !ring.kept.is_empty() {
            self.bytes -= ring.pop();
        }
        ring.trimmed = false;
        if ring.listeners.is_empty() {
            self.rings.remove(key);
        }
        messages
    }

    /// Bytes of the messages kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn close(&mut self) {
        for ring in self.rings.values_mut() {
            ring.listeners.close();
        }
    }

    /// Starts a listener, or delivers what comes next.
    pub(super) fn catch_up(&mut self, key: &Arc<str>, listener: u64, now: u64) {
        let Some(ring) = self.rings.get_mut(key) else {
            return;
        };
        self.bytes -= ring.expire(now, self.ttl_ms, &mut self.expired);
        let now = now.max(self.last.ms);
        let (resume, starting) = match ring.listeners.phase(listener) {
            Some(Phase::Starting(resume)) => (resume, true),
            Some(Phase::Behind(after)) => (Resume::After(after), false),
            Some(Phase::Live) | None => return,
        };
        let kept = ring.exists().then(|| Kept {
            first: ring.first(),
            trimmed: ring.trimmed,
            has: matches!(resume, Resume::After(id) if ring.has(id)),
            last: ring.last(),
        });
        // If nothing at all has expired since, a quiet channel is just that.
        let whole = matches!(resume, Resume::After(after) if after >= self.expired);
        let history = History {
            now_ms: now,
            ttl_ms: if whole { u64::MAX } else { self.ttl_ms },
            gap: self.gap,
            since: ring.since,
            kept,
            late: false,
        };
        let decision = decide(resume, &history);
        if starting || decision.is_err() {
            let head = ring.last();
            let head = head.filter(|last| *last > self.gap && *last >= ring.since);
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
