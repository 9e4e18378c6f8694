//! What a listener is sent: the deliveries of its subscription in the wire format.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use live::{Batch, Delivery, StreamId, Subscription, sse};

use crate::http::sse::types::Types;
use crate::metrics::SseMetrics;

/// Deliveries are put together up to this size: fewer, larger writes.
const JOINED: usize = 64 * 1024;

/// How a listener wants its messages.
#[derive(Debug)]
pub struct Form {
    /// Whether messages are named by their event's type.
    pub named: bool,
    /// Which of them.
    pub types: Types,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// These bytes: whole messages.
    Send(Bytes),
    /// Nothing any more: the client was too slow.
    Slow,
    /// Nothing any more: the channels are shut down.
    Ended,
}

/// The subscription of one listener.
#[derive(Debug)]
pub struct Feed {
    subscription: Subscription,
    form: Form,
    /// The last message that this listener did not want, while it is newer than what it has: it is
    /// told the id, lest it resumes from far behind.
    passed: Option<StreamId>,
}

impl Feed {
    /// What that subscription delivers, in that form.
    #[must_use]
    pub fn new(subscription: Subscription, form: Form) -> Self {
        Self {
            subscription,
            form,
            passed: None,
        }
    }

    /// Everything there is to send now.
    pub fn poll(&mut self, metrics: &SseMetrics, cx: &mut Context<'_>) -> Poll<Next> {
        let mut out = Joined::Nothing;
        while out.len() < JOINED {
            match self.subscription.poll_next(cx) {
                // What was put together before is dropped: it can be had by resuming.
                Poll::Ready(Some(Delivery::Slow)) => return Poll::Ready(Next::Slow),
                Poll::Ready(None) => return Poll::Ready(Next::Ended),
                Poll::Ready(Some(delivery)) => out.push(self.wire(delivery, metrics)),
                Poll::Pending => break,
            }
        }
        let bytes = out.finish();
        if bytes.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Next::Send(bytes))
    }

    /// Ready when the listener was too slow: to be asked by one who cannot take more for now.
    pub fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.subscription.poll_slow(cx)
    }

    /// What is sent when there is nothing to send: a sign of life, and how far the listener is.
    pub fn heartbeat(&mut self) -> Bytes {
        self.passed.take().map_or(sse::HEARTBEAT, sse::cursor)
    }

    fn wire(&mut self, delivery: Delivery, metrics: &SseMetrics) -> Bytes {
        match delivery {
            Delivery::Begun { cursor } => sse::cursor(cursor),
            Delivery::Reset { reason, cursor } => {
                metrics.resets.with_label_values(&[reason.as_str()]).inc();
                self.passed = None;
                sse::reset(reason, cursor)
            }
            Delivery::Messages(batch) => {
                let (wire, messages) = if self.form.types.is_all() {
                    (batch.wire(self.form.named), batch.entries().len())
                } else {
                    self.wanted(&batch)
                };
                let messages = u64::try_from(messages).unwrap_or(u64::MAX);
                metrics.messages.inc_by(messages);
                wire
            }
            Delivery::Slow => Bytes::new(),
        }
    }

    fn wanted(&mut self, batch: &Batch) -> (Bytes, usize) {
        let mut wire = BytesMut::new();
        let mut messages = 0;
        for entry in batch.entries() {
            if self.form.types.want(&entry.message.event) {
                sse::write(&mut wire, entry, self.form.named);
                self.passed = None;
                messages += 1;
            } else {
                self.passed = Some(entry.id);
            }
        }
        (wire.freeze(), messages)
    }
}

/// Bytes put together; those that come alone are not copied.
#[derive(Debug)]
enum Joined {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Joined {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, more: Bytes) {
        if more.is_empty() {
            return;
        }
        match self {
            Self::Nothing => *self = Self::One(more),
            Self::One(bytes) => {
                let mut many = BytesMut::with_capacity(bytes.len() + more.len());
                many.extend_from_slice(bytes);
                many.extend_from_slice(&more);
                *self = Self::Many(many);
            }
            Self::Many(bytes) => bytes.extend_from_slice(&more),
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}
