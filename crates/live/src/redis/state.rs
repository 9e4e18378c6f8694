//! The channels that listeners of this process are subscribed to, and the work there is for them.
//!
//! All of it under one lock and without waiting for anything, so that a listener joins at a cursor
//! that means the same to it and to the reader.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::read::{ReadKind, ReadRequest};
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
    /// It is among those to read.
    to_read: bool,
    pub(super) listeners: Listeners,
}

impl ChannelState {
    /// Whether its listeners have all that was pointed to.
    pub(super) fn is_read(&self) -> bool {
        self.subscribed && !self.to_read
    }
}

/// All channels with listeners.
#[derive(Debug, Default)]
pub(crate) struct ChannelStates {
    pub(super) channels: HashMap<Arc<str>, ChannelState>,
    to_subscribe: VecDeque<Arc<str>>,
    to_unsubscribe: Vec<Arc<str>>,
    to_read: VecDeque<Arc<str>>,
    /// Listeners that wait for history, or for their beginning.
    pub(super) waiting: VecDeque<(Arc<str>, u64)>,
    /// The last gap known.
    pub(super) gap: StreamId,
    next_listener: u64,
    /// The last listener that joined while Redis could not be read.
    pub(super) late: u64,
    /// Redis cannot be read.
    disconnected: bool,
    pub(super) ttl_ms: u64,
}

impl ChannelStates {
    pub(crate) fn new(ttl_ms: u64) -> Self {
        Self {
            ttl_ms,
            ..Self::default()
        }
    }

    /// Adds a listener; returns its id.
    pub(crate) fn join(&mut self, key: &Arc<str>, resume: Resume, queue: Arc<Queue>) -> u64 {
        self.next_listener += 1;
        let channel = self.channels.entry(Arc::clone(key)).or_insert_with(|| {
            self.to_subscribe.push_back(Arc::clone(key));
            ChannelState {
                cursor: None,
                gap_delivered: self.gap,
                subscribed: false,
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
        self.waiting.push_back((Arc::clone(key), listener));
    }

    /// Removes a listener. Returns whether its channel has none left.
    pub(crate) fn leave(&mut self, key: &str, listener: u64) -> bool {
        let Some(channel) = self.channels.get_mut(key) else {
            return false;
        };
        channel.listeners.leave(listener);
        self.forget_if_empty(key)
    }

    pub(super) fn forget_if_empty(&mut self, key: &str) -> bool {
        let channel = self.channels.get(key);
        let empty = channel.is_some_and(|channel| channel.listeners.is_empty());
        if empty && let Some((key, _)) = self.channels.remove_entry(key) {
            self.to_unsubscribe.push(key);
        }
        empty
    }

    /// Ends all listeners.
    pub(crate) fn close(&mut self) {
        for channel in self.channels.values_mut() {
            channel.listeners.close();
        }
        *self = Self::new(self.ttl_ms);
    }

    /// Redis cannot be read any more, or not yet again.
    pub(crate) fn disconnected(&mut self) {
        self.disconnected = true;
    }

    /// A new connection receives no pointers yet. Listeners that joined before it and have not
    /// begun have missed something, unless it is the first connection.
    pub(crate) fn reconnected(&mut self) {
        if std::mem::take(&mut self.disconnected) {
            self.late = self.next_listener;
        }
        self.to_unsubscribe.clear();
        self.to_subscribe.clear();
        for (key, channel) in &mut self.channels {
            channel.subscribed = false;
            self.to_subscribe.push_back(Arc::clone(key));
        }
    }

    /// Channels to unsubscribe from. To be dealt with before [`Self::take_to_subscribe`]: a channel
    /// may have been left and joined again.
    pub(crate) fn take_to_unsubscribe(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.to_unsubscribe)
    }

    /// Some of the channels to subscribe to.
    pub(crate) fn take_to_subscribe(&mut self) -> Vec<Arc<str>> {
        let some = self.to_subscribe.len().min(ROUND);
        let mut keys: Vec<_> = self.to_subscribe.drain(..some).collect();
        keys.retain(|key| self.channels.contains_key(key));
        keys
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

    /// What to read next, about `messages` at most: the channels first, so that what a listener
    /// reads is up to date with what its channel received before.
    pub(crate) fn plan(&mut self, messages: usize) -> Vec<ReadRequest> {
        let some = self.waiting.len().min(ROUND);
        let waiting: Vec<_> = self.waiting.drain(..some).collect();
        let mut histories = Vec::new();
        for (key, listener) in waiting {
            let Some(channel) = self.channels.get(&key) else {
                continue;
            };
            if channel.cursor.is_none() && !channel.subscribed {
                self.waiting.push_back((key, listener));
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
                    newest: channel.gap_delivered < self.gap,
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
                    self.waiting.push_back((key, listener));
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
