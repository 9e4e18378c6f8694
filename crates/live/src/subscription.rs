//! The listener's end of a channel.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::id::StreamId;
use crate::message::Entry;
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
    /// resume should nothing else come.
    Begun {
        /// Where it can resume.
        cursor: StreamId,
    },
    /// Something may be missing before what follows.
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

/// A listener's place in a channel; dropping it ends the listening.
#[derive(Debug)]
pub struct Subscription {}

impl Subscription {
    /// The next delivery; `None` after [`Delivery::Slow`] or when the channels are shut down.
    /// Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        None
    }
}
