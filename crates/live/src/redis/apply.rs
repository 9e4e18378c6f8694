//! How channels and listeners go on with what was read.

use std::collections::HashSet;
use std::sync::Arc;

use super::read::{ReadKind, ReadReplies, ReadReply, ReadRequest};
use super::state::{ChannelState, ChannelStates};
use super::value::Range;
use crate::delivery::{Batch, Delivery};
use crate::id::{Resume, StreamId};
use crate::listeners::Phase;
use crate::resume::{History, Kept, Reset, decide};

impl ChannelStates {
    /// Goes on with what was read.
    pub(crate) fn apply(&mut self, requests: Vec<ReadRequest>, replies: ReadReplies) {
        let now_ms = replies.now_ms;
        // Channels whose live listeners have all there was when this was read.
        let mut current = HashSet::new();
        for (ReadRequest { key, kind }, reply) in requests.into_iter().zip(replies.replies) {
            let all = match (kind, reply) {
                (ReadKind::Head, ReadReply::Head(head)) => self.begin(&key, head, now_ms),
                (
                    ReadKind::New { after, .. },
                    ReadReply::New {
                        range,
                        newest,
                        kept,
                    },
                ) => {
                    let cut = kept.filter(|kept| kept.is_cut(after));
                    let cut = cut.and_then(|kept| kept.last);
                    self.advance(&key, (after, cut), range, newest, now_ms)
                }
                (ReadKind::History { listener, .. }, ReadReply::History { range, kept }) => {
                    self.resume(&key, listener, range, kept, now_ms, current.contains(&key));
                    false
                }
                (ReadKind::Nothing { listener, resume }, _) => {
                    self.start(&key, listener, resume, now_ms);
                    false
                }
                _ => false,
            };
            if all {
                current.insert(key);
            }
        }
    }

    /// Begins a channel whose end is known now; returns whether its listeners have everything.
    fn begin(&mut self, key: &Arc<str>, head: Option<StreamId>, now_ms: u64) -> bool {
        let gap = self.gap;
        let Some(channel) = self.channels.get_mut(key) else {
            return false;
        };
        if channel.cursor.is_some() {
            self.mark(key);
            return false;
        }
        let gap = channel.gap(gap);
        let head = head.filter(|head| *head > gap && *head >= channel.since);
        channel.cursor = Some(head.unwrap_or_else(|| StreamId::before(now_ms)));
        channel.gap_delivered = gap;
        true
    }

    /// Delivers what is new; returns whether that was all. If messages may be missing right after
    /// `after`, what was read is passed over with a reset; `cut` is the newest message then.
    fn advance(
        &mut self,
        key: &Arc<str>,
        (after, cut): (StreamId, Option<StreamId>),
        range: Range,
        newest: Option<StreamId>,
        now_ms: u64,
    ) -> bool {
        let gap = self.gap;
        let refresh_ms = self.ttl_ms / 4;
        let Some(channel) = self.channels.get_mut(key) else {
            return false;
        };
        if channel.cursor != Some(after) {
            self.mark(key);
            return false;
        }
        let gap = channel.gap(gap);
        let all = range.complete;
        let mut cursor = range.last.or(cut).unwrap_or(after);
        let mut entries = range.entries;
        if cut.is_some() {
            entries.clear();
            channel.listeners.deliver(&Delivery::Reset {
                reason: Reset::Trimmed,
                cursor,
            });
        }
        if channel.gap_delivered < gap {
            let later = entries.split_off(entries.partition_point(|entry| entry.id <= gap));
            channel.listeners.deliver_messages(entries);
            entries = later;
            if all || cursor > gap {
                channel.gap_delivered = gap;
                channel.listeners.deliver(&Delivery::Reset {
                    reason: Reset::Gap,
                    cursor: gap,
                });
                let end = newest.unwrap_or_else(|| StreamId::before(now_ms));
                // A server that lost its data may count from an earlier time again.
                cursor = if all && end < after {
                    end
                } else {
                    cursor.max(gap)
                };
            }
        }
        channel.listeners.deliver_messages(entries);
        if all && now_ms.saturating_sub(cursor.ms) > refresh_ms {
            // An older cursor could soon not be distinguished from one of an expired channel.
            cursor = cursor.max(StreamId::before(now_ms));
            channel.listeners.deliver(&Delivery::Begun { cursor });
        }
        channel.cursor = Some(cursor);
        if !all {
            self.mark(key);
        }
        self.forget_if_empty(key);
        all
    }

    /// Begins a listener without history.
    fn start(&mut self, key: &Arc<str>, listener: u64, resume: Resume, now_ms: u64) {
        let history = History {
            late: listener <= self.late,
            ..self.history(now_ms, None)
        };
        let Some((channel, cursor)) = self.settled(key, listener) else {
            return;
        };
        let decision = decide(resume, &history);
        channel.listeners.start(listener, decision, cursor);
        self.forget_if_empty(key);
    }

    /// Begins a listener with history, or goes on with it. `current`: the listeners of its channel
    /// have all there was when this was read.
    fn resume(
        &mut self,
        key: &Arc<str>,
        listener: u64,
        range: Range,
        kept: Option<Kept>,
        now_ms: u64,
        current: bool,
    ) {
        let mut history = self.history(now_ms, kept);
        let Some((channel, mut cursor)) = self.settled(key, listener) else {
            return;
        };
        history.since = channel.since;
        history.gap = channel.gap(history.gap);
        let (after, starting) = match channel.listeners.phase(listener) {
            Some(Phase::Starting(Resume::After(after))) => (after, true),
            Some(Phase::Behind(after)) => (after, false),
            _ => return,
        };
        let mut decision = decide(Resume::After(after), &history);
        if decision.is_ok() && after > cursor {
            // Another process has delivered more to it than this channel has read here.
            if !current || !after.is_place_in_time() {
                self.mark(key);
                self.more(key, listener);
                return;
            }
            cursor = cursor.max(StreamId::before(now_ms));
            channel.cursor = Some(cursor);
            decision = Ok(None);
        }
        if starting || decision != Ok(Some(after)) {
            channel.listeners.start(listener, decision, cursor);
        }
        if decision == Ok(Some(after)) {
            let beyond = range.last.is_some_and(|last| last >= cursor);
            let mut entries = range.entries;
            entries.truncate(entries.partition_point(|entry| entry.id <= cursor));
            let end = range.last.map_or(after, |last| last.min(cursor));
            let batches = Batch::split(entries, channel.listeners.batch_bytes(listener));
            let all = range.complete || beyond;
            channel.listeners.catch_up(listener, batches, end, all);
        }
        self.forget_if_empty(key);
    }

    fn history(&self, now_ms: u64, kept: Option<Kept>) -> History {
        History {
            now_ms,
            ttl_ms: self.ttl_ms,
            gap: self.gap,
            since: StreamId::default(),
            kept,
            late: false,
        }
    }

    /// The channel of a listener and its cursor; if that is not settled yet, the listener waits on.
    fn settled(&mut self, key: &Arc<str>, listener: u64) -> Option<(&mut ChannelState, StreamId)> {
        let gap = self.gap;
        let channel = self.channels.get_mut(key)?;
        channel.listeners.phase(listener)?;
        match channel.cursor {
            Some(cursor) if channel.gap_delivered >= channel.gap(gap) => Some((channel, cursor)),
            _ => {
                self.waiting.insert(listener, Arc::clone(key));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use crate::redis::testing::{KEY, id, range, read, received, round, states};

    #[test]
    fn a_gap_is_delivered_in_its_place() {
        let (mut states, queue) = states(Resume::Live);
        assert_eq!(received(&queue), ["begun 100"]);
        states.observe_gap(Some(StreamId::before(301)));
        read(&mut states, 400, &[200, 300, 301, 302], Some(302));
        assert_eq!(received(&queue), ["200,300", "gap 300", "301,302"]);
        read(&mut states, 500, &[400], Some(400));
        assert_eq!(received(&queue), ["400"]);
    }

    #[test]
    fn a_gap_waits_until_everything_before_it_is_read() {
        let (mut states, queue) = states(Resume::Live);
        received(&queue);
        let many: Vec<u64> = (101..=200).collect();
        states.observe_gap(Some(StreamId::before(301)));
        read(&mut states, 400, &many, Some(250));
        assert!(received(&queue).iter().all(|text| !text.starts_with("gap")));
        assert!(states.has_work(), "there is more to read");
        read(&mut states, 400, &[250], Some(250));
        assert_eq!(received(&queue), ["250", "gap 300"]);
        // The place after the gap, not the message before it, is where one joins.
        let other = Arc::new(Queue::new(1_000));
        states.join(&KEY.into(), Resume::Live, Arc::clone(&other));
        round(&mut states, 400, |_| ReadReply::Nothing);
        assert_eq!(received(&other), ["begun 300"]);
    }

    #[test]
    fn a_server_whose_clock_was_set_back_is_followed_after_the_gap() {
        let (mut states, queue) = states(Resume::Live);
        received(&queue);
        read(&mut states, 900, &[900], None);
        states.observe_gap(Some(StreamId::before(1_001)));
        // It lost everything, and counts from 500 now.
        read(&mut states, 500, &[], Some(500));
        assert_eq!(received(&queue), ["900", "gap 1000"]);
        let cursor = states.channels[KEY].cursor;
        assert_eq!(cursor, Some(id(500)));
    }

    #[test]
    fn a_listener_that_was_further_elsewhere_waits_for_its_channel() {
        let (mut states, _queue) = states(Resume::Live);
        let kept = Some(Kept {
            first: Some(id(100)),
            trimmed: false,
            has: true,
            last: None,
        });
        let history = || ReadReply::History {
            range: range(&[160]),
            kept,
        };
        // Its own history is newer than what its channel read in the same round.
        let listener = Arc::new(Queue::new(1_000));
        states.join(&KEY.into(), Resume::After(id(150)), Arc::clone(&listener));
        let new = |at: &'static [u64]| {
            move |kind: &ReadKind| match kind {
                ReadKind::New { .. } => ReadReply::New {
                    range: range(at),
                    newest: None,
                    kept: None,
                },
                ReadKind::History { .. } => history(),
                _ => ReadReply::Nothing,
            }
        };
        round(&mut states, 200, new(&[]));
        assert!(
            received(&listener).is_empty(),
            "nothing could be decided yet"
        );
        round(&mut states, 200, new(&[150, 160]));
        assert_eq!(received(&listener), ["begun 150", "160"]);
        read(&mut states, 200, &[170], None);
        assert_eq!(received(&listener), ["170"]);
    }
}
