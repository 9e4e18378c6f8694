//! A channel with a listener, without a Redis.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::read::{ReadKind, ReadReplies, ReadReply};
use super::state::ChannelStates;
use super::value::Range;
use crate::config::Retention;
use crate::delivery::Delivery;
use crate::id::{Resume, StreamId};
use crate::message::{Entry, Message};
use crate::queue::Queue;

pub(super) const KEY: &str = "k";

/// Messages requested in one round.
const COUNT: usize = 100;

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
        first: at.first().map(|ms| id(*ms)),
        last: at.last().map(|ms| id(*ms)),
        complete: at.len() < COUNT,
    }
}

/// A channel that ends at 100 ms, with a listener.
pub(super) fn states(resume: Resume) -> (ChannelStates, Arc<Queue>) {
    let retention = Retention {
        ttl_seconds: 1_000,
        ..Retention::default()
    };
    let mut states = ChannelStates::new(&retention);
    let queue = Arc::new(Queue::new(1 << 20));
    states.join(&KEY.into(), resume, Arc::clone(&queue));
    states.observe_gap(Some(StreamId::before(50)));
    let keys = states.take_to_subscribe();
    states.subscribed(&keys);
    round(&mut states, 200, |kind| match kind {
        ReadKind::Head => ReadReply::Head(Some(id(100))),
        ReadKind::History { .. } => ReadReply::History {
            range: range(&[]),
            kept: None,
        },
        _ => ReadReply::Nothing,
    });
    (states, queue)
}

pub(super) fn round(
    states: &mut ChannelStates,
    now_ms: u64,
    reply: impl Fn(&ReadKind) -> ReadReply,
) {
    let requests = states.plan(COUNT);
    let replies = requests
        .iter()
        .map(|request| reply(&request.kind))
        .collect();
    let replies = ReadReplies {
        now_ms,
        gap: None,
        replies,
    };
    states.apply(requests, replies);
}

/// One round in which the channel has that.
pub(super) fn read(states: &mut ChannelStates, now_ms: u64, new: &[u64], end: Option<u64>) {
    states.mark(KEY);
    round(states, now_ms, |kind| match kind {
        ReadKind::New { .. } => ReadReply::New {
            range: range(new),
            newest: end.map(id),
            kept: None,
        },
        _ => ReadReply::Nothing,
    });
}

/// What the listener received, in short.
pub(super) fn received(queue: &Queue) -> Vec<String> {
    let mut taken = VecDeque::new();
    queue.take(&mut taken, &mut Context::from_waker(Waker::noop()));
    let short = |delivery| match delivery {
        Delivery::Begun { cursor } => format!("begun {}", cursor.ms),
        Delivery::Reset { reason, cursor } => format!("{} {}", reason.as_str(), cursor.ms),
        Delivery::Messages(batch) => {
            let ids = batch.entries().iter().map(|entry| entry.id.ms.to_string());
            ids.collect::<Vec<_>>().join(",")
        }
        Delivery::Transient(message) => format!("transient {}", message.event),
        Delivery::Slow => "slow".to_owned(),
    };
    taken.into_iter().map(short).collect()
}
