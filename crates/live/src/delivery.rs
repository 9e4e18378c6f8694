//! What a listener receives.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::id::StreamId;
use crate::message::{Entry, Message};
use crate::resume::Reset;
use crate::sse;

/// Bytes of a batch, at most, unless it is one message: so that one push does not overrun a queue.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;

/// What a listener receives.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The subscription has begun; nothing comes before this. It comes again when the channel has
    /// been quiet for long, with a fresher cursor: an old one could not be distinguished from one
    /// that has expired.
    Begun {
        /// Where the listener can resume should nothing else come.
        cursor: StreamId,
    },
    /// Something may be missing before what follows. Comes instead of [`Self::Begun`] if the
    /// listener cannot resume: it must not hold a good cursor before it knows of the loss.
    Reset {
        /// Why.
        reason: Reset,
        /// Where the listener can resume.
        cursor: StreamId,
    },
    /// Messages, in order, none delivered before.
    Messages(Arc<Batch>),
    /// A message that is in no channel: it was sent to those who listen, and has no id.
    Transient(Arc<Message>),
    /// The listener was too slow: its queue was full. Nothing comes after this; it can resume after
    /// the last message it received.
    Slow,
}

/// Messages in order, encoded once for all listeners.
#[derive(Debug, Default)]
pub struct Batch {
    entries: Vec<Entry>,
    size: usize,
    named: OnceLock<Bytes>,
    unnamed: OnceLock<Bytes>,
}

impl Batch {
    /// A batch of these messages, ids rising.
    #[must_use]
    pub fn new(entries: Vec<Entry>) -> Self {
        Self {
            size: entries.iter().map(|entry| sse::size(&entry.message)).sum(),
            entries,
            ..Self::default()
        }
    }

    /// Splits messages into batches of at most `bytes` each, ready to be shared.
    pub(crate) fn split(entries: Vec<Entry>, bytes: usize) -> Vec<Arc<Self>> {
        let mut batches = Vec::new();
        let mut current = Vec::new();
        let mut size = 0;
        for entry in entries {
            let more = sse::size(&entry.message);
            if !current.is_empty() && size + more > bytes {
                batches.push(Arc::new(Self::new(std::mem::take(&mut current))));
                size = 0;
            }
            size += more;
            current.push(entry);
        }
        if !current.is_empty() {
            batches.push(Arc::new(Self::new(current)));
        }
        batches
    }

    /// The messages.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes it counts for in a listener's queue.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// All messages in the wire format, with or without event names.
    pub fn wire(&self, named: bool) -> Bytes {
        let wire = if named { &self.named } else { &self.unnamed };
        wire.get_or_init(|| {
            let mut out = BytesMut::with_capacity(self.size);
            for entry in &self.entries {
                sse::write(&mut out, &entry.message, Some(entry.id), named);
            }
            out.freeze()
        })
        .clone()
    }
}
