//! The only place that reads the clock and makes ids from it.

use time::OffsetDateTime;
use uuid::Uuid;

/// The current time in UTC, truncated to microseconds, the precision of PostgreSQL.
#[must_use]
pub fn now() -> OffsetDateTime {
    domain::timestamp::to_micros(OffsetDateTime::now_utc())
}

/// A new event id (UUIDv7, which sorts by time).
#[must_use]
pub fn fresh_id() -> Uuid {
    Uuid::now_v7()
}
