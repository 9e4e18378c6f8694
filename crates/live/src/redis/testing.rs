//! A channel with a listener, without a Redis.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::channel::Watch;
use super::read::{Answer, Answers, What};
use super::value::Range;
use crate::id::{Resume, StreamId};
use crate::message::{Entry, Message};
use crate::queue::Queue;
use crate::subscription::Delivery;

pub(super) const KEY: &str = "k";

pub(super) fn id(ms: u64) -> StreamId {
    StreamId { ms, seq: 0 }
}

/// Messages at those milliseconds, as `XRANGE` would give them.
pub(super) fn range(at: &[u64]) -> Range {
    let message = Message {
        event: "e".to_owned(),
        data: "{}".into(),
    };
    let entry = |ms: &u64| Entry {
        id: id(*ms),
        message: message.clone(),
    };
    Range {
        entries: at.iter().map(entry).collect(),
        count: at.len(),
        first: at.first().map(|ms| id(*ms)),
        last: at.last().map(|ms| id(*ms)),
    }
}

/// A channel that ends at 100 ms, with a listener.
pub(super) fn watch(resume: Resume) -> (Watch, Arc<Queue>) {
    let mut watch = Watch::new(1_000_000);
    let queue = Arc::new(Queue::new(1 << 20));
    watch.join(&KEY.into(), resume, Arc::clone(&queue));
    watch.note_gap(Some(StreamId::before(50)));
    let fresh = watch.take_fresh();
    watch.subscribed(&fresh);
    round(&mut watch, 200, |what| match what {
        What::Head => Answer::Head(Some(id(100))),
        What::History { .. } => Answer::History {
            range: range(&[]),
            kept: None,
        },
        _ => Answer::Nothing,
    });
    (watch, queue)
}

pub(super) fn round(watch: &mut Watch, now_ms: u64, answer: impl Fn(&What) -> Answer) {
    let asks = watch.plan(100);
    let answers = asks.iter().map(|ask| answer(&ask.what)).collect();
    let answers = Answers {
        now_ms,
        gap: None,
        answers,
    };
    watch.apply(asks, answers);
}

/// One round in which the channel has that.
pub(super) fn read(watch: &mut Watch, now_ms: u64, new: &[u64], end: Option<u64>) {
    watch.mark(KEY);
    round(watch, now_ms, |what| match what {
        What::New { .. } => Answer::New {
            range: range(new),
            newest: end.map(id),
        },
        _ => Answer::Nothing,
    });
}

/// What the listener was given, in short.
pub(super) fn given(queue: &Queue) -> Vec<String> {
    let mut taken = VecDeque::new();
    queue.take(&mut taken, &mut Context::from_waker(Waker::noop()));
    let short = |delivery| match delivery {
        Delivery::Begun { cursor } => format!("begun {}", cursor.ms),
        Delivery::Reset { reason, cursor } => format!("{} {}", reason.as_str(), cursor.ms),
        Delivery::Messages(batch) => {
            let ids = batch.entries().iter().map(|entry| entry.id.ms.to_string());
            ids.collect::<Vec<_>>().join(",")
        }
        Delivery::Slow => "slow".to_owned(),
    };
    taken.into_iter().map(short).collect()
}
