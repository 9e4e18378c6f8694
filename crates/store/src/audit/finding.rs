//! What differs.

use time::{Date, OffsetDateTime};
use uuid::Uuid;

/// The kinds of differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// A day's count of a type is not the number of its rows.
    DailyCount,
    /// An hour's count is not.
    HourlyCount,
    /// An id is known, but its event is not there.
    RowLost,
    /// An event is there twice.
    RowDoubled,
    /// An event is there whose id is not known.
    RowUnclaimed,
    /// An id is known under another time than its event's.
    IdMisplaced,
    /// A stream is at a lower number than that of its last event.
    StreamBehind,
    /// A stream is at a higher number than that of its last event.
    StreamAhead,
    /// A stream lacks a number.
    StreamGap,
    /// A stream has events, but is not there itself.
    StreamMissing,
    /// A log is taken for stored beyond what is.
    PositionAhead,
    /// A projection's state is not what its events come to.
    Projection,
}

impl FindingKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DailyCount => "daily_count",
            Self::HourlyCount => "hourly_count",
            Self::RowLost => "row_lost",
            Self::RowDoubled => "row_doubled",
            Self::RowUnclaimed => "row_unclaimed",
            Self::IdMisplaced => "id_misplaced",
            Self::StreamBehind => "stream_behind",
            Self::StreamAhead => "stream_ahead",
            Self::StreamGap => "stream_gap",
            Self::StreamMissing => "stream_missing",
            Self::PositionAhead => "position_ahead",
            Self::Projection => "projection",
        }
    }
}

/// A difference.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// Whose; none where it is of all.
    pub tenant: Option<String>,
    /// What it is about, in words.
    pub subject: String,
    /// What follows from the rows.
    pub expected: String,
    /// What there is.
    pub found: String,
    /// Rows that show it, some of them.
    pub events: Vec<Uuid>,
    /// How it is repaired, if it can be.
    pub(super) remedy: Option<Remedy>,
}

impl Finding {
    /// Whether more is counted than there are rows.
    #[must_use]
    pub fn is_surplus(&self) -> bool {
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        matches!(
            self.kind,
            FindingKind::DailyCount | FindingKind::HourlyCount
        ) && number(&self.found) > number(&self.expected)
    }
}

/// How a difference is repaired.
#[derive(Debug, Clone)]
pub(super) enum Remedy {
    Daily(Date, String),
    /// Hour, type, source and category.
    Hourly(OffsetDateTime, [String; 3]),
    /// Removes the row of that time.
    Remove(Uuid, OffsetDateTime),
    /// Claims the id of the row of that time.
    Claim(Uuid, OffsetDateTime),
    /// Puts the id to the row of that time.
    Place(Uuid, OffsetDateTime),
    /// Sets the number of a stream to that of its last event.
    Stream(String),
    /// Topic, partition, what is stored now, and what it is to be.
    Position(String, i32, i64, i64),
    /// Definition and entity.
    Projection(i64, String),
}
