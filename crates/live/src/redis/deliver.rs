//! How channels and listeners go on with what was read.

use std::collections::HashSet;
use std::sync::Arc;

use super::channel::{Watch, Watched};
use super::read::{Answer, Answers, Ask, What};
use super::value::Range;
use crate::id::{Resume, StreamId};
use crate::listeners::{Phase, batches, shared_batches};
use crate::resume::{History, Kept, decide};
use crate::subscription::{Delivery, Reset};

impl Watch {
    /// Goes on with what was read.
    pub(crate) fn apply(&mut self, asks: Vec<Ask>, answers: Answers) {
        let now_ms = answers.now_ms;
        // Channels of which everyone live has all there was when this was read.
        let mut clean = HashSet::new();
        for (ask, answer) in asks.into_iter().zip(answers.answers) {
            let Ask { key, what } = ask;
            let all = match (what, answer) {
                (What::Head, Answer::Head(head)) => self.begin(&key, head, now_ms),
                (What::New { after, count, .. }, Answer::New { range, newest }) => {
                    self.go_on(&key, after, range, count, newest, now_ms)
                }
                (
                    What::History {
                        listener, count, ..
                    },
                    Answer::History { range, kept },
                ) => {
                    let current = clean.contains(&key);
                    self.resume(&key, listener, range, count, kept, now_ms, current);
                    false
                }
                (What::Nothing { listener, resume }, _) => {
                    self.start(&key, listener, resume, now_ms);
                    false
                }
                _ => false,
            };
            if all {
                clean.insert(key);
            }
        }
    }

    /// It is known where the channel ends.
    fn begin(&mut self, key: &Arc<str>, head: Option<StreamId>, now_ms: u64) -> bool {
        let gap = self.gap;
        let Some(channel) = self.channels.get_mut(key) else {
            return false;
        };
        if channel.cursor.is_some() {
            self.mark(key);
            return false;
        }
        let head = head.filter(|head| *head > gap);
        channel.cursor = Some(head.unwrap_or_else(|| StreamId::before(now_ms)));
        channel.gap_told = gap;
        true
    }

    /// Gives out what is new; says whether that was all.
    fn go_on(
        &mut self,
        key: &Arc<str>,
        after: StreamId,
        range: Range,
        count: usize,
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
        let all = range.count < count;
        let mut cursor = range.last.unwrap_or(after);
        let mut before = range.entries;
        if channel.gap_told < gap {
            let rest = before.split_off(before.partition_point(|entry| entry.id <= gap));
            for batch in shared_batches(before) {
                channel.listeners.tell(&Delivery::Messages(batch));
            }
            before = rest;
            if all || cursor > gap {
                channel.gap_told = gap;
                channel.listeners.tell(&Delivery::Reset {
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
        for batch in shared_batches(before) {
            channel.listeners.tell(&Delivery::Messages(batch));
        }
        if all && now_ms.saturating_sub(cursor.ms) > refresh_ms {
            // A cursor that old could soon not be told from one of a channel that has expired.
            cursor = cursor.max(StreamId::before(now_ms));
            channel.listeners.tell(&Delivery::Begun { cursor });
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
        channel
            .listeners
            .start(listener, decide(resume, &history), cursor);
        self.forget_if_empty(key);
    }

    /// Begins a listener with history, or goes on with it.
    #[expect(
        clippy::too_many_arguments,
        reason = "what one answer has, and no more"
    )]
    fn resume(
        &mut self,
        key: &Arc<str>,
        listener: u64,
        range: Range,
        count: usize,
        kept: Option<Kept>,
        now_ms: u64,
        current: bool,
    ) {
        let history = self.history(now_ms, kept);
        let Some((channel, mut cursor)) = self.settled(key, listener) else {
            return;
        };
        let (after, starting) = match channel.listeners.phase(listener) {
            Some(Phase::Starting(Resume::After(after))) => (after, true),
            Some(Phase::Behind(after)) => (after, false),
            _ => return,
        };
        let mut decision = decide(Resume::After(after), &history);
        if decision.is_ok() && after > cursor {
            // It has been given more elsewhere than this channel was here.
            if !current || !after.is_place_in_time() {
                self.mark(key);
                self.waiting.push_back((Arc::clone(key), listener));
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
            let all = range.count <= count || beyond;
            let mut entries = range.entries;
            entries.truncate(entries.partition_point(|entry| entry.id <= cursor));
            let bytes = channel.listeners.batch_bytes(listener);
            let end = range.last.map_or(after, |last| last.min(cursor));
            let batches = batches(entries, bytes);
            channel.listeners.catch_up(listener, batches, end, all);
        }
        self.forget_if_empty(key);
    }

    fn history(&self, now_ms: u64, kept: Option<Kept>) -> History {
        History {
            now_ms,
            ttl_ms: self.ttl_ms,
            gap: self.gap,
            kept,
            late: false,
        }
    }

    /// The channel of a listener and its cursor; if that is not settled yet, the listener waits on.
    fn settled(&mut self, key: &Arc<str>, listener: u64) -> Option<(&mut Watched, StreamId)> {
        let gap = self.gap;
        let channel = self.channels.get_mut(key)?;
        channel.listeners.phase(listener)?;
        match channel.cursor {
            Some(cursor) if channel.gap_told >= gap => Some((channel, cursor)),
            _ => {
                self.waiting.push_back((Arc::clone(key), listener));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Queue;
    use crate::redis::testing::{KEY, given, id, range, read, round, watch};

    #[test]
    fn a_gap_is_told_in_its_place() {
        let (mut watch, queue) = watch(Resume::Live);
        assert_eq!(given(&queue), ["begun 100"]);
        watch.note_gap(Some(StreamId::before(301)));
        read(&mut watch, 400, &[200, 300, 301, 302], Some(302));
        assert_eq!(given(&queue), ["200,300", "gap 300", "301,302"]);
        read(&mut watch, 500, &[400], Some(400));
        assert_eq!(given(&queue), ["400"]);
    }

    #[test]
    fn a_gap_waits_until_everything_before_it_is_read() {
        let (mut watch, queue) = watch(Resume::Live);
        given(&queue);
        let many: Vec<u64> = (101..=200).collect();
        watch.note_gap(Some(StreamId::before(301)));
        read(&mut watch, 400, &many, Some(250));
        assert!(given(&queue).iter().all(|text| !text.starts_with("gap")));
        assert!(watch.has_work(), "there is more to read");
        read(&mut watch, 400, &[250], Some(250));
        assert_eq!(given(&queue), ["250", "gap 300"]);
        // The place after the gap, not the message before it, is where one joins.
        let other = Arc::new(Queue::new(1_000));
        watch.join(&KEY.into(), Resume::Live, Arc::clone(&other));
        round(&mut watch, 400, |_| Answer::Nothing);
        assert_eq!(given(&other), ["begun 300"]);
    }

    #[test]
    fn a_server_whose_clock_was_set_back_is_followed_after_the_gap() {
        let (mut watch, queue) = watch(Resume::Live);
        given(&queue);
        read(&mut watch, 900, &[900], None);
        watch.note_gap(Some(StreamId::before(1_001)));
        // It lost everything, and counts from 500 now.
        read(&mut watch, 500, &[], Some(500));
        assert_eq!(given(&queue), ["900", "gap 1000"]);
        let cursor = watch.channels[KEY].cursor;
        assert_eq!(cursor, Some(id(500)));
    }

    #[test]
    fn a_listener_that_was_further_elsewhere_waits_for_its_channel() {
        let (mut watch, _queue) = watch(Resume::Live);
        let kept = Some(Kept {
            first: Some(id(100)),
            trimmed: false,
            has: true,
        });
        let history = || Answer::History {
            range: range(&[160]),
            kept,
        };
        // Its own history is newer than what its channel was given in the same round.
        let listener = Arc::new(Queue::new(1_000));
        watch.join(&KEY.into(), Resume::After(id(150)), Arc::clone(&listener));
        let new = |at: &'static [u64]| {
            move |what: &What| match what {
                What::New { .. } => Answer::New {
                    range: range(at),
                    newest: None,
                },
                What::History { .. } => history(),
                _ => Answer::Nothing,
            }
        };
        round(&mut watch, 200, new(&[]));
        assert!(given(&listener).is_empty(), "nothing could be told yet");
        round(&mut watch, 200, new(&[150, 160]));
        assert_eq!(given(&listener), ["begun 150", "160"]);
        read(&mut watch, 200, &[170], None);
        assert_eq!(given(&listener), ["170"]);
    }
}
