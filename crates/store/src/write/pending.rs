//! An event on its way into the database.

use domain::Event;
use time::OffsetDateTime;
use uuid::Uuid;

/// Where a record stands in its log.
#[derive(Debug, Clone, Copy)]
pub struct RecordPlace<'a> {
    /// Full topic name, or [`LOG`](crate::log::LOG).
    pub topic: &'a str,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

impl RecordPlace<'_> {
    /// Whether both stand in one partition.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.partition == other.partition && self.topic == other.topic
    }
}

/// An event to be stored, with where it stands in its batch.
#[derive(Debug, Clone, Copy)]
pub struct Pending<'a> {
    /// Index of its record among the records of the batch.
    pub item: usize,
    /// The event.
    pub event: &'a Event,
    /// Its [`Event::content_hash`].
    pub hash: i64,
    /// When it was processed; `None` if something is to be done with it first.
    pub processed_at: Option<OffsetDateTime>,
    /// Where its record stood first.
    pub place: RecordPlace<'a>,
    /// Whether a gateway took it, not a producer of the log.
    pub by_gateway: bool,
    /// The event whose append this one goes on with: it is stored if and only if that one is.
    pub follows: Option<Uuid>,
    /// The dead letter that its record was before.
    pub dead_letter: Option<i64>,
    /// Its number in the stream of its aggregate, once that is known.
    pub version: Option<i64>,
}
