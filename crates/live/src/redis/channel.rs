//! The channels someone of this process listens to, and what there is to do for them.
//!
//! All of it under one lock and without waiting for anything, so that a listener joins at a cursor
//! that means the same to it and to the reader.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::read::{Ask, What};
use crate::id::{Resume, StreamId};
use crate::listeners::{Listeners, Phase};
use crate::queue::Queue;

/// Channels read, and listeners served, in one round.
const ROUND: usize = 256;

/// Messages of one channel read in one round, at most.
const MOST_MESSAGES: usize = 512;

/// Messages of history given to a listener at a time.
const CHUNK: usize = 64;

#[derive(Debug)]
pub(super) struct Watched {
    /// Everyone live has everything up to here; `None` until it is known where the channel ends.
    pub(super) cursor: Option<StreamId>,
    /// The last gap everyone live was told of.
    pub(super) gap_told: StreamId,
    /// Pointers of it are received.
    subscribed: bool,
    /// It waits to be read.
    dirty: bool,
    pub(super) listeners: Listeners,
}

impl Watched {
    /// Whether its listeners have all that was pointed to.
    pub(super) fn is_read(&self) -> bool {
        self.subscribed && !self.dirty
    }
}

/// All channels that are listened to.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(super) channels: HashMap<Arc<str>, Watched>,
    /// Without pointers so far.
    fresh: VecDeque<Arc<str>>,
    /// Pointers no longer wanted.
    left: Vec<Arc<str>>,
    dirty: VecDeque<Arc<str>>,
    /// Listeners that wait for history, or for their beginning.
    pub(super) waiting: VecDeque<(Arc<str>, u64)>,
    /// The last gap known.
    pub(super) gap: StreamId,
    next_listener: u64,
    /// The last listener who came while Redis could not be read.
    pub(super) late: u64,
    /// Redis cannot be read.
    lost: bool,
    pub(super) ttl_ms: u64,
}

impl Watch {
    pub(crate) fn new(ttl_ms: u64) -> Self {
        Self {
            ttl_ms,
            ..Self::default()
        }
    }

    /// Adds a listener; gives its id.
    pub(crate) fn join(&mut self, key: &Arc<str>, resume: Resume, queue: Arc<Queue>) -> u64 {
        self.next_listener += 1;
        let gap = self.gap;
        let fresh = &mut self.fresh;
        let channel = self.channels.entry(Arc::clone(key)).or_insert_with(|| {
            fresh.push_back(Arc::clone(key));
            Watched {
                cursor: None,
                gap_told: gap,
                subscribed: false,
                dirty: false,
                listeners: Listeners::default(),
            }
        });
        channel.listeners.join(self.next_listener, resume, queue);
        self.waiting
            .push_back((Arc::clone(key), self.next_listener));
        self.next_listener
    }

    /// A listener wants more of the history.
    pub(crate) fn more(&mut self, key: &Arc<str>, listener: u64) {
        self.waiting.push_back((Arc::clone(key), listener));
    }

    /// A listener is gone. Says whether the channel is too.
    pub(crate) fn leave(&mut self, key: &str, listener: u64) -> bool {
        let Some(channel) = self.channels.get_mut(key) else {
            return false;
        };
        channel.listeners.leave(listener);
        self.forget_if_empty(key)
    }

    pub(super) fn forget_if_empty(&mut self, key: &str) -> bool {
        let empty = self
            .channels
            .get(key)
            .is_some_and(|c| c.listeners.is_empty());
        if empty && let Some((key, _)) = self.channels.remove_entry(key) {
            self.left.push(key);
        }
        empty
    }

    /// Ends all listeners.
    pub(crate) fn close(&mut self) {
        for channel in self.channels.values_mut() {
            channel.listeners.close();
        }
        let ttl_ms = self.ttl_ms;
        *self = Self::new(ttl_ms);
    }

    /// Redis cannot be read any more, or not yet again.
    pub(crate) fn lost(&mut self) {
        self.lost = true;
    }

    /// A new connection receives no pointers yet. Who came before it and has not begun has missed
    /// something, unless it is the first one.
    pub(crate) fn reconnected(&mut self) {
        if std::mem::take(&mut self.lost) {
            self.late = self.next_listener;
        }
        self.left.clear();
        self.fresh.clear();
        for (key, channel) in &mut self.channels {
            channel.subscribed = false;
            self.fresh.push_back(Arc::clone(key));
        }
    }

    /// Channels whose pointers are no longer wanted. To be dealt with before the fresh ones: a
    /// channel may have been left and joined again.
    pub(crate) fn take_left(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.left)
    }

    /// Some of the channels whose pointers are wanted.
    pub(crate) fn take_fresh(&mut self) -> Vec<Arc<str>> {
        let some = self.fresh.len().min(ROUND);
        let mut fresh: Vec<_> = self.fresh.drain(..some).collect();
        fresh.retain(|key| self.channels.contains_key(key));
        fresh
    }

    /// Pointers of these are received from now on: what came before is to be read.
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
        if let Some((key, channel)) = self.channels.get_key_value(key)
            && channel.subscribed
            && !channel.dirty
        {
            let key = Arc::clone(key);
            self.dirty.push_back(Arc::clone(&key));
            if let Some(channel) = self.channels.get_mut(&key) {
                channel.dirty = true;
            }
        }
    }

    /// There may be something new in every channel.
    pub(crate) fn mark_all(&mut self) {
        for (key, channel) in &mut self.channels {
            if channel.subscribed && !channel.dirty {
                channel.dirty = true;
                self.dirty.push_back(Arc::clone(key));
            }
        }
    }

    /// Whether there is something to do.
    pub(crate) fn has_work(&self) -> bool {
        !(self.dirty.is_empty()
            && self.waiting.is_empty()
            && self.fresh.is_empty()
            && self.left.is_empty())
    }

    /// What is to be read next, about `messages` at most: the channels first, so that what a
    /// listener reads is up to date with what its channel was given before.
    pub(crate) fn plan(&mut self, messages: usize) -> Vec<Ask> {
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
            let what = match channel.listeners.phase(listener) {
                Some(Phase::Starting(Resume::After(after)) | Phase::Behind(after)) => {
                    if channel.cursor.is_none_or(|cursor| after > cursor) {
                        self.mark(&key);
                    }
                    What::History {
                        listener,
                        after,
                        count: CHUNK,
                    }
                }
                Some(Phase::Starting(resume)) => What::Nothing { listener, resume },
                Some(Phase::Live) | None => continue,
            };
            histories.push(Ask { key, what });
        }
        let some = self.dirty.len().min(ROUND);
        let count = (messages / some.max(1)).clamp(8, MOST_MESSAGES);
        let dirty: Vec<_> = self.dirty.drain(..some).collect();
        let mut asks = Vec::with_capacity(some + histories.len());
        for key in dirty {
            let Some(channel) = self.channels.get_mut(&key) else {
                continue;
            };
            channel.dirty = false;
            let what = match channel.cursor {
                None => What::Head,
                Some(after) => What::New {
                    after,
                    count,
                    newest: channel.gap_told < self.gap,
                },
            };
            asks.push(Ask { key, what });
        }
        asks.append(&mut histories);
        asks
    }

    /// Puts back what could not be read.
    pub(crate) fn put_back(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            match ask.what {
                What::Head | What::New { .. } => self.mark(&ask.key),
                What::History { listener, .. } | What::Nothing { listener, .. } => {
                    self.waiting.push_back((ask.key, listener));
                }
            }
        }
    }

    /// Notes the last gap there is; says whether it is a new one. Then everything is to be read
    /// again, in view of it.
    pub(crate) fn note_gap(&mut self, gap: Option<StreamId>) -> bool {
        let new = gap.is_some_and(|gap| gap > self.gap);
        if let Some(gap) = gap.filter(|_| new) {
            self.gap = gap;
            self.mark_all();
        }
        new
    }

    /// The last gap known.
    pub(crate) fn gap(&self) -> StreamId {
        self.gap
    }
}
