//! The listener's end of a channel.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::delivery::Delivery;
use crate::queue::{Queue, Taken};

/// What holds the listeners of a channel.
pub(crate) trait ListenerHost: Send + Sync {
    /// The listener has read the history it was given and wants more.
    fn more(&self, key: &Arc<str>, listener: u64);

    /// The listener is gone.
    fn leave(&self, key: &Arc<str>, listener: u64);
}

/// A listener of a channel; dropping it ends the listening.
///
/// The first delivery is [`Delivery::Begun`] or [`Delivery::Reset`].
pub struct Subscription {
    host: Arc<dyn ListenerHost>,
    key: Arc<str>,
    listener: u64,
    queue: Arc<Queue>,
    /// Taken from the queue all at once, returned one by one.
    taken: VecDeque<Delivery>,
}

impl Subscription {
    pub(crate) fn new(
        host: Arc<dyn ListenerHost>,
        key: Arc<str>,
        listener: u64,
        queue: Arc<Queue>,
    ) -> Self {
        Self {
            host,
            key,
            listener,
            queue,
            taken: VecDeque::new(),
        }
    }

    /// The next delivery; `None` after [`Delivery::Slow`] or when the channels are shut down.
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Self::next`] as a poll. Calling it until it is pending returns all that waits: the first
    /// call takes all of it, the calls in between cost next to nothing.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if let Some(delivery) = self.taken.pop_front() {
            return Poll::Ready(Some(delivery));
        }
        match self.queue.take(&mut self.taken, cx) {
            Taken::Some => Poll::Ready(self.taken.pop_front()),
            Taken::Ended => Poll::Ready(None),
            Taken::Nothing { wants_history } => {
                if wants_history {
                    self.host.more(&self.key, self.listener);
                }
                Poll::Pending
            }
        }
    }

    /// Ready once the listener was too slow, [`Delivery::Slow`] being what comes next or came last;
    /// frees what it took before. For a listener that is writing what it received and does not call
    /// [`Self::poll_next`] meanwhile: new messages do not wake it.
    pub fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.queue.is_slow(cx) {
            self.taken = VecDeque::new();
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.queue.close();
        self.host.leave(&self.key, self.listener);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("key", &self.key)
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
