//! The channels that listeners of this process are subscribed to, and the work there is for them.
//!
//! All of it under one lock and without waiting for anything, so that a listener joins at a cursor
//! that means the same to it and to the reader.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::read::{ReadKind, ReadRequest};
use crate::config::Retention;
use crate::id::{Resume, StreamId};
use crate::listeners::{Listeners, Phase};
use crate::queue::Queue;

/// Channels read, and listeners served, in one round.
const ROUND: usize = 256;

/// Messages of one channel read in one round, at most.
const MAX_MESSAGES: usize = 512;

/// Messages of history delivered to a listener at a time.
const CHUNK: usize = 64;

/// One channel with listeners.
#[derive(Debug)]
pub(super) struct ChannelState {
    /// Listeners that are live have everything up to here; `None` until the channel's end is known.
    pub(super) cursor: Option<StreamId>,
    /// The last gap that listeners which are live know of.
    pub(super) gap_delivered: StreamId,
    /// Its pointers are received.
    subscribed: bool,
    /// It has been listened to since then, here or elsewhere: what came before was not kept.
    pub(super) since: StreamId,
    /// Messages before it may be lost to its listeners, in this channel alone.
    lapsed: StreamId,
    /// It is among those to read.
    to_read: bool,
    pub(super) listeners: Listeners,
}

impl ChannelState {
    /// Whether its listeners have all that was pointed to.
    pub(super) fn is_read(&self) -> bool {
        self.subscribed && !self.to_read
    }

    /// The last gap of this channel; `all` is that of all channels.
    pub(super) fn gap(&self, all: StreamId) -> StreamId {
        all.max(self.lapsed)
    }
}

/// All channels with listeners.
#[derive(Debug, Default)]
pub(crate) struct ChannelStates {
    pub(super) channels: HashMap<Arc<str>, ChannelState>,
    to_subscribe: BTreeSet<Arc<str>>,
    to_unsubscribe: Vec<Arc<str>>,
    to_read: VecDeque<Arc<str>>,
    /// The channels of the listeners that wait for history, or for their beginning.
    pub(super) waiting: BTreeMap<u64, Arc<str>>,
    /// The listener that was served last, for each waiting one to have its turn.
    served: u64,
    /// The last gap known.
    pub(super) gap: StreamId,
    next_listener: u64,
    /// The last listener that joined while Redis could not be read.
    pub(super) late: u64,
    /// Redis cannot be read.
    disconnected: bool,
    pub(super) ttl_ms: u64,
    /// Channels that nobody listens to are kept too.
    keep_all: bool,
}

impl ChannelStates {
    pub(crate) fn new(retention: &Retention) -> Self {
        Self {
            ttl_ms: retention.ttl_seconds * 1_000,
            keep_all: retention.keep_all,
            ..Self::default()
        }
    }

    /// Adds a listener; returns its id.
    pub(crate) fn join(&mut self, key: &Arc<str>, resume: Resume, queue: Arc<Queue>) -> u64 {
        self.next_listener += 1;
        let channel = self.channels.entry(Arc::clone(key)).or_insert_with(|| {
            self.to_subscribe.insert(Arc::clone(key));
            ChannelState {
                cursor: None,
                gap_delivered: self.gap,
                subscribed: false,
                since: StreamId::default(),
                lapsed: StreamId::default(),
                to_read: false,
                listeners: Listeners::default(),
            }
        });
        channel.listeners.join(self.next_listener, resume, queue);
        self.more(key, self.next_listener);
        self.next_listener
    }

    /// A listener wants more of the history.
    pub(crate) fn more(&mut self, key: &Arc<str>, listener: u64) {
        self.waiting.insert(listener, Arc::clone(key));
    }

    /// Removes a listener. Returns whether its channel has none left.
    pub(crate) fn leave(&mut self, key: &str, listener: u64) -> bool {
        self.waiting.remove(&listener);
        let Some(channel) = self.channels.get_mut(key) else {
            return false;
        };
        channel.listeners.leave(listener);
        self.forget_if_empty(key)
    }

    pub(super) fn forget_if_empty(&mut self, key: &str) -> bool {
        let channel = self.channels.get(key);
        let empty = channel.is_some_and(|channel| channel.listeners.is_empty());
        if empty && let Some((key, channel)) = self.channels.remove_entry(key) {
            self.to_subscribe.remove(&key);
            if channel.subscribed {
                self.to_unsubscribe.push(key);
            }
        }
        empty
    }

    /// Ends all listeners.
    pub(crate) fn close(&mut self) {
        for channel in self.channels.values_mut() {
            channel.listeners.close();
        }
        self.channels.clear();
        self.waiting.clear();
    }

    /// Redis cannot be read any more, or not yet again. Nothing is subscribed to, and nothing is to
    /// be read: who leaves meanwhile leaves nothing behind.
    pub(crate) fn disconnected(&mut self) {
        self.disconnected = true;
        self.to_unsubscribe.clear();
        self.to_read.clear();
        for (key, channel) in &mut self.channels {
            channel.subscribed = false;
            channel.to_read = false;
            self.to_subscribe.insert(Arc::clone(key));
        }
    }

    /// There is a new connection. Listeners that joined before it and have not begun have missed
    /// something, unless it is the first connection.
    pub(crate) fn reconnected(&mut self) {
        if std::mem::take(&mut self.disconnected) {
            self.late = self.next_listener;
        }
    }

    /// Channels to unsubscribe from. To be dealt with before [`Self::take_to_subscribe`]: a channel
    /// may have been left and joined again.
    pub(crate) fn take_to_unsubscribe(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.to_unsubscribe)
    }

    /// Some of the channels to subscribe to.
    pub(crate) fn take_to_subscribe(&mut self) -> Vec<Arc<str>> {
        std::iter::from_fn(|| self.to_subscribe.pop_first())
            .take(ROUND)
            .collect()
    }

    /// The channels whose pointers are received.
    pub(crate) fn subscribed_channels(&self) -> Vec<Arc<str>> {
        let subscribed = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.subscribed);
        subscribed.map(|(key, _)| Arc::clone(key)).collect()
    }

    /// Since when these are listened to, in milliseconds. One that did not count as such for a while,
    /// though it has listeners, may have lost messages: that is a gap of its own.
    pub(crate) fn listened(&mut self, keys: &[Arc<str>], since_ms: &[u64]) {
        if self.keep_all {
            return;
        }
        for (key, since_ms) in keys.iter().zip(since_ms) {
            if let Some(channel) = self.channels.get_mut(key) {
                let since = StreamId::before(*since_ms);
                if channel.cursor.is_some() && channel.since < since {
                    channel.lapsed = since;
                }
                channel.since = since;
            }
        }
    }

    /// Pointers of these are received from now on: what came before has to be read.
    pub(crate) fn subscribed(&mut self, keys: &[Arc<str>]) {
        for key in keys {
            if let Some(channel) = self.channels.get_mut(key) {
                channel.subscribed = true;
            }
            self.mark(key);
        }
    }

    /// There is something new in that channel.
    pub(crate) fn mark(&mut self, key: &str) {
        if let Some(channel) = self.channels.get_mut(key)
            && channel.subscribed
            && !channel.to_read
        {
            channel.to_read = true;
            if let Some((key, _)) = self.channels.get_key_value(key) {
                self.to_read.push_back(Arc::clone(key));
            }
        }
    }

    /// There may be something new in every channel.
    pub(crate) fn mark_all(&mut self) {
        for (key, channel) in &mut self.channels {
            if channel.subscribed && !channel.to_read {
                channel.to_read = true;
                self.to_read.push_back(Arc::clone(key));
            }
        }
    }

    /// Whether there is something to do.
    pub(crate) fn has_work(&self) -> bool {
        !(self.to_read.is_empty()
            && self.waiting.is_empty()
            && self.to_subscribe.is_empty()
            && self.to_unsubscribe.is_empty())
    }

    /// Some of those that wait: those after the one that was served last, then the first ones.
    fn take_waiting(&mut self) -> Vec<(u64, Arc<str>)> {
        let later = (Bound::Excluded(self.served), Bound::Unbounded);
        let all = self
            .waiting
            .range(later)
            .chain(self.waiting.range(..=self.served));
        let some: Vec<u64> = all.map(|(listener, _)| *listener).take(ROUND).collect();
        self.served = some.last().copied().unwrap_or_default();
        some.iter()
            .filter_map(|listener| self.waiting.remove_entry(listener))
            .collect()
    }

    /// What to read next, about `messages` at most: the channels first, so that what a listener
    /// reads is up to date with what its channel received before.
    pub(crate) fn plan(&mut self, messages: usize) -> Vec<ReadRequest> {
        let mut histories = Vec::new();
        for (listener, key) in self.take_waiting() {
            let Some(channel) = self.channels.get(&key) else {
                continue;
            };
            if channel.cursor.is_none() && !channel.subscribed {
                self.waiting.insert(listener, key);
                continue;
            }
            let kind = match channel.listeners.phase(listener) {
                Some(Phase::Starting(Resume::After(after)) | Phase::Behind(after)) => {
                    if channel.cursor.is_none_or(|cursor| after > cursor) {
                        self.mark(&key);
                    }
                    ReadKind::History {
                        listener,
                        after,
                        count: CHUNK,
                    }
                }
                Some(Phase::Starting(resume)) => ReadKind::Nothing { listener, resume },
                Some(Phase::Live) | None => continue,
            };
            histories.push(ReadRequest { key, kind });
        }
        let some = self.to_read.len().min(ROUND);
        let count = (messages / some.max(1)).clamp(8, MAX_MESSAGES);
        let mut requests = Vec::with_capacity(some + histories.len());
        for key in self.to_read.drain(..some) {
            let Some(channel) = self.channels.get_mut(&key) else {
                continue;
            };
            channel.to_read = false;
            let kind = match channel.cursor {
                None => ReadKind::Head,
                Some(after) => ReadKind::New {
                    after,
                    count,
                    newest: channel.gap_delivered < channel.gap(self.gap),
                },
            };
            requests.push(ReadRequest { key, kind });
        }
        requests.append(&mut histories);
        requests
    }

    /// Puts back requests without a reply.
    pub(crate) fn put_back(&mut self, requests: Vec<ReadRequest>) {
        for ReadRequest { key, kind } in requests {
            match kind {
                ReadKind::Head | ReadKind::New { .. } => self.mark(&key),
                ReadKind::History { listener, .. } | ReadKind::Nothing { listener, .. } => {
                    self.more(&key, listener);
                }
            }
        }
    }

    /// Remembers the last gap in Redis; returns whether it is a new one. Then every channel has to
    /// be read again, in view of it.
    pub(crate) fn observe_gap(&mut self, gap: Option<StreamId>) -> bool {
        let new = gap.filter(|gap| *gap > self.gap);
        if let Some(gap) = new {
            self.gap = gap;
            self.mark_all();
        }
        new.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::testing::{KEY, states};

    #[test]
    fn who_comes_and_goes_while_redis_is_down_leaves_nothing_behind() {
        let (mut states, _queue) = states(Resume::Live);
        states.disconnected();
        for n in 0..10_000 {
            let key: Arc<str> = format!("user {}", n % 7).into();
            let queue = Arc::new(Queue::new(1_000));
            let listener = states.join(&key, Resume::Live, queue);
            states.leave(&key, listener);
        }
        let left = (states.to_unsubscribe.len(), states.to_read.len());
        assert_eq!(left, (0, 0));
        assert!(states.waiting.is_empty());
        // The one that stays is subscribed to again.
        assert_eq!(states.to_subscribe, BTreeSet::from([Arc::from(KEY)]));
        assert_eq!(states.channels.len(), 1);
    }

    #[test]
    fn each_that_waits_has_its_turn() {
        let mut states = ChannelStates::new(&Retention::default());
        for _ in 0..2 * ROUND {
            states.join(&KEY.into(), Resume::Live, Arc::new(Queue::new(1_000)));
        }
        // None can be served as long as the channel is not subscribed to.
        let mut seen = BTreeSet::new();
        for _ in 0..2 {
            let some = states.take_waiting();
            seen.extend(some.iter().map(|(listener, _)| *listener));
            for (listener, key) in some {
                states.more(&key, listener);
            }
        }
        assert_eq!(seen.len(), 2 * ROUND);
    }
}
