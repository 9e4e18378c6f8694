//! Encodes the deliveries of a subscription in the wire format.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use live::{Batch, Delivery, Reset, StreamId, Subscription, sse};

use crate::http::sse::end::End;
use crate::http::sse::type_filter::TypeFilter;
use crate::http::sse::unsent::Unsent;
use crate::metrics::SseMetrics;

/// How a listener wants its messages.
#[derive(Debug)]
pub struct SseFormat {
    /// Whether messages are named by their event's type.
    pub named: bool,
    /// The types it wants.
    pub types: TypeFilter,
}

/// Encodes what one listener is sent.
#[derive(Debug)]
pub struct SseEncoder {
    subscription: Subscription,
    format: SseFormat,
    /// Delivered before the stream was answered.
    begun: Option<Delivery>,
    /// The stream was answered before it began: something may be missing.
    late: bool,
    /// The last message that this listener did not want, while it is newer than what it has: the
    /// next heartbeat carries the id, so that it does not resume from far behind.
    skipped: Option<StreamId>,
}

impl SseEncoder {
    /// Encodes what that subscription delivers, in that format: first `begun`, which it has delivered
    /// already. `late`: it should have begun before, and where it begins comes a reset.
    #[must_use]
    pub fn new(
        subscription: Subscription,
        format: SseFormat,
        begun: Option<Delivery>,
        late: bool,
    ) -> Self {
        Self {
            subscription,
            format,
            begun,
            late,
            skipped: None,
        }
    }

    /// Adds whole messages to `unsent`, which is empty: all there are now, or enough for a write.
    ///
    /// # Errors
    /// [`End`]; what was added before need not be sent: the client can resume.
    pub fn poll(
        &mut self,
        unsent: &mut Unsent,
        metrics: &SseMetrics,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), End>> {
        if let Some(begun) = self.begun.take() {
            unsent.push(self.encode(begun, metrics));
        }
        while !unsent.is_enough() {
            match self.subscription.poll_next(cx) {
                Poll::Ready(Some(Delivery::Slow)) => return Poll::Ready(Err(End::Slow)),
                Poll::Ready(None) => return Poll::Ready(Err(End::Shutdown)),
                Poll::Ready(Some(delivery)) => unsent.push(self.encode(delivery, metrics)),
                Poll::Pending if unsent.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the listener was too slow, while it takes no more for now.
    pub fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.subscription.poll_slow(cx)
    }

    /// What is sent when there is nothing to send: a sign of life, and how far the listener is.
    pub fn heartbeat(&mut self) -> Bytes {
        self.skipped.take().map_or(sse::HEARTBEAT, sse::cursor)
    }

    fn encode(&mut self, delivery: Delivery, metrics: &SseMetrics) -> Bytes {
        let late = std::mem::take(&mut self.late);
        let delivery = match delivery {
            Delivery::Begun { cursor } if late => Delivery::Reset {
                reason: Reset::Gap,
                cursor,
            },
            other => other,
        };
        match delivery {
            Delivery::Begun { cursor } => sse::cursor(cursor),
            Delivery::Reset { reason, cursor } => {
                metrics.resets.with_label_values(&[reason.as_str()]).inc();
                self.skipped = None;
                sse::reset(reason, cursor)
            }
            Delivery::Messages(batch) => {
                let (wire, messages) = if self.format.types.is_all() {
                    (batch.wire(self.format.named), batch.entries().len())
                } else {
                    self.filtered(&batch)
                };
                let messages = u64::try_from(messages).unwrap_or(u64::MAX);
                metrics.messages.inc_by(messages);
                wire
            }
            Delivery::Transient(message) if self.format.types.matches(&message.event) => {
                metrics.messages.inc();
                let mut wire = BytesMut::with_capacity(sse::size(&message));
                sse::write(&mut wire, &message, None, self.format.named);
                wire.freeze()
            }
            Delivery::Transient(_) | Delivery::Slow => Bytes::new(),
        }
    }

    fn filtered(&mut self, batch: &Batch) -> (Bytes, usize) {
        let mut wire = BytesMut::new();
        let mut messages = 0;
        for entry in batch.entries() {
            if self.format.types.matches(&entry.message.event) {
                sse::write(&mut wire, &entry.message, Some(entry.id), self.format.named);
                self.skipped = None;
                messages += 1;
            } else {
                self.skipped = Some(entry.id);
            }
        }
        (wire.freeze(), messages)
    }
}
