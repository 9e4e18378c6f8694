//! Records of a log: as they come out, and as they go in.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

/// Bookkeeping of a header beside its bytes: two vectors and their allocations.
const HEADER_OVERHEAD: usize = 80;
/// Bookkeeping of a record beside its bytes.
const RECORD_OVERHEAD: usize = size_of::<Record>() + 32;

/// One record as it came out of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Full topic name, prefix included.
    pub topic: Arc<str>,
    /// Partition within the topic.
    pub partition: i32,
    /// Position within the partition. Offsets rise but may have gaps (compaction, transactions).
    pub offset: i64,
    /// Milliseconds since the Unix epoch, when the broker or the sender gave one.
    pub timestamp_ms: Option<i64>,
    /// Partitioning key.
    pub key: Option<Vec<u8>>,
    /// Headers in sending order; names that are no UTF-8 are read lossily, a null value is empty.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The bytes sent; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl Record {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_slice())
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD)
            .sum();
        RECORD_OVERHEAD
            + headers
            + self.key.as_ref().map_or(0, Vec::len)
            + self.payload.as_ref().map_or(0, Vec::len)
    }
}

/// Headers of a record to publish: immutable, so that a clone costs one reference count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Arc<[(Cow<'static, str>, Bytes)]>);

impl Headers {
    /// Name and value of each header, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N, V> FromIterator<(N, V)> for Headers
where
    N: Into<Cow<'static, str>>,
    V: Into<Bytes>,
{
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(
            headers
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

/// One record to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Full topic name, prefix included.
    pub topic: Arc<str>,
    /// Records of one key keep their order. An empty key spreads records over the partitions.
    pub key: Vec<u8>,
    /// Headers, sent in this order.
    pub headers: Headers,
    /// The bytes to send.
    pub payload: Bytes,
}
