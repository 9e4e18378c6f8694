//! The one place that reads the clock and makes ids of it.

use time::OffsetDateTime;
use uuid::Uuid;

/// Now, in UTC, cut to microseconds: what PostgreSQL keeps.
#[must_use]
pub fn now() -> OffsetDateTime {
    domain::timestamp::to_micros(OffsetDateTime::now_utc())
}

/// A fresh event id (UUIDv7: sorts by time).
#[must_use]
pub fn fresh_id() -> Uuid {
    Uuid::now_v7()
}
