//! The listener's end of a channel.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::id::StreamId;
use crate::message::Entry;
use crate::queue::{Queue, Taken};
use crate::sse;

/// Why a listener may have missed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// It resumed after something that is no id.
    Malformed,
    /// No message of this channel has that id.
    Unknown,
    /// The channel keeps a limited number of messages and older ones are gone.
    Trimmed,
    /// The channel was quiet longer than it is kept.
    Expired,
    /// Messages were dropped, or the server lost them.
    Gap,
}

impl Reset {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Trimmed => "trimmed",
            Self::Expired => "expired",
            Self::Gap => "gap",
        }
    }
}

/// What a listener is given.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The subscription stands; before this nothing comes. `cursor` is where the listener can
    /// resume should nothing else come. It comes again when the channel has been quiet for long,
    /// with a fresher cursor: an old one could not be told from one that has expired.
    Begun {
        /// Where it can resume.
        cursor: StreamId,
    },
    /// Something may be missing before what follows. Instead of [`Self::Begun`] if the listener
    /// cannot resume: it must not hold a good cursor before it has been told.
    Reset {
        /// Why.
        reason: Reset,
        /// Where it can resume.
        cursor: StreamId,
    },
    /// Messages, in order, none given before.
    Messages(Arc<Batch>),
    /// The listener was too slow: its queue was full. Nothing comes after this; it can resume after
    /// the last message it was given.
    Slow,
}

/// Messages in order, with their wire form made once for all listeners.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    named: OnceLock<Bytes>,
    unnamed: OnceLock<Bytes>,
}

impl Batch {
    /// A batch of these messages, ids rising.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        Self {
            entries,
            named: OnceLock::new(),
            unnamed: OnceLock::new(),
        }
    }

    /// The messages.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes it counts for in a listener's queue.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries.iter().map(sse::size).sum()
    }

    /// All messages on the wire.
    pub fn wire(&self, named: bool) -> Bytes {
        let form = if named { &self.named } else { &self.unnamed };
        form.get_or_init(|| {
            let mut out = BytesMut::with_capacity(self.size());
            for entry in &self.entries {
                sse::write(&mut out, entry, named);
            }
            out.freeze()
        })
        .clone()
    }
}

/// Where a listener belongs.
pub(crate) trait Home: Send + Sync {
    /// The listener has read what it had of the history and wants more.
    fn more(&self, key: &Arc<str>, listener: u64);

    /// The listener is gone.
    fn leave(&self, key: &Arc<str>, listener: u64);
}

/// A listener's place in a channel; dropping it ends the listening.
///
/// The first delivery is [`Delivery::Begun`] or [`Delivery::Reset`].
pub struct Subscription {
    home: Arc<dyn Home>,
    key: Arc<str>,
    listener: u64,
    queue: Arc<Queue>,
    /// Taken from the queue all at once, given out one by one.
    taken: VecDeque<Delivery>,
}

impl Subscription {
    pub(crate) fn new(
        home: Arc<dyn Home>,
        key: Arc<str>,
        listener: u64,
        queue: Arc<Queue>,
    ) -> Self {
        Self {
            home,
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

    /// The same for one who polls by hand. Everything that waits can be had by calling it until it
    /// is pending: all of it is taken at once, and the calls in between cost next to nothing.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if let Some(delivery) = self.taken.pop_front() {
            return Poll::Ready(Some(delivery));
        }
        match self.queue.take(&mut self.taken, cx) {
            Taken::Some => Poll::Ready(self.taken.pop_front()),
            Taken::Ended => Poll::Ready(None),
            Taken::Nothing { ask } => {
                if ask {
                    self.home.more(&self.key, self.listener);
                }
                Poll::Pending
            }
        }
    }

    /// Ready once the listener was too slow, [`Delivery::Slow`] being what comes next or came last;
    /// what it took before is freed. For one that is busy with what it was given and does not call
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
        self.home.leave(&self.key, self.listener);
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
