//! How much a tenant may send, events in a second and bytes in a day: one that sends without end must not
//! take the log, the database and the place of all others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use domain::TenantId;
use time::{Date, OffsetDateTime};

/// Seconds of its rate that a tenant may send at once after a pause.
const BURST: f64 = 5.0;

/// With so many tenants those are forgotten that may send all again.
const MOST_KNOWN: usize = 10_000;

/// What each tenant has left. Each gateway counts for itself.
#[derive(Debug)]
pub struct TenantRate {
    /// Events a second; 0 is no limit.
    rate: f64,
    most: f64,
    /// Bytes a day, in UTC; 0 is no limit.
    bytes_a_day: u64,
    left: Mutex<HashMap<TenantId, Bucket>>,
}

/// What a tenant has too much of, and after how many seconds it may send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Events in this second.
    Events(u32),
    /// Bytes on this day.
    Bytes(u32),
}

#[derive(Debug)]
struct Bucket {
    events: f64,
    at: Instant,
    day: Date,
    bytes: u64,
}

impl TenantRate {
    /// So many events a second and bytes a day, 0 for no limit; `None` without any limit. A whole batch may
    /// always be sent at once.
    #[must_use]
    pub fn new(rate: u32, bytes_a_day: u64, max_batch_events: usize) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let most = (f64::from(rate) * BURST).max(max_batch_events as f64);
        (rate > 0 || bytes_a_day > 0).then(|| Self {
            rate: f64::from(rate),
            most,
            bytes_a_day,
            left: Mutex::default(),
        })
    }

    /// Takes so many events with so many bytes from what the tenant has left.
    ///
    /// # Errors
    /// It has fewer: of what, and after how many seconds it will have them.
    pub fn take(
        &self,
        tenant: &TenantId,
        (events, bytes): (usize, usize),
        now: Instant,
        at: OffsetDateTime,
    ) -> Result<(), Exceeded> {
        let day = at.date();
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if !left.contains_key(tenant) {
            if left.len() >= MOST_KNOWN {
                // Whoever has sent nothing for that long has all again.
                let all = self.most / self.rate.max(1.0);
                left.retain(|_, bucket| {
                    let pause = now.saturating_duration_since(bucket.at).as_secs_f64();
                    pause < all || self.bytes_a_day > 0 && bucket.day == day
                });
            }
            let bucket = Bucket {
                events: self.most,
                at: now,
                day,
                bytes: 0,
            };
            left.insert(tenant.clone(), bucket);
        }
        let Some(bucket) = left.get_mut(tenant) else {
            return Ok(());
        };
        if bucket.day != day {
            (bucket.day, bucket.bytes) = (day, 0);
        }
        let sent = bucket.bytes.saturating_add(bytes as u64);
        if self.bytes_a_day > 0 && sent > self.bytes_a_day {
            let (hour, minute, second) = at.to_hms();
            let gone = (u32::from(hour) * 60 + u32::from(minute)) * 60 + u32::from(second);
            return Err(Exceeded::Bytes(86_400_u32.saturating_sub(gone).max(1)));
        }
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.events = (bucket.events + since * self.rate).min(self.most);
        bucket.at = now;
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let missing = events as f64 - bucket.events;
        if self.rate > 0.0 && missing > 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive number, and far too large ones are cut"
            )]
            return Err(Exceeded::Events(
                (missing / self.rate).ceil().max(1.0) as u32
            ));
        }
        bucket.events = -missing;
        bucket.bytes = sent;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;

    const DAY: OffsetDateTime = datetime!(2026-11-29 23:00 UTC);

    #[test]
    fn each_tenant_has_its_rate_and_a_burst_of_it() {
        let rate = TenantRate::new(10, 0, 20).unwrap();
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::default());
        let now = Instant::now();
        let take = |tenant, events, now| rate.take(tenant, (events, 1 << 40), now, DAY);
        assert_eq!(take(&acme, 50, now), Ok(()));
        assert_eq!(take(&acme, 1, now), Err(Exceeded::Events(1)));
        assert_eq!(take(&acme, 20, now), Err(Exceeded::Events(2)));
        assert_eq!(take(&other, 50, now), Ok(()), "the other's is its own");
        let later = now + Duration::from_secs(1);
        assert_eq!(take(&acme, 10, later), Ok(()));
        assert_eq!(take(&acme, 1, later), Err(Exceeded::Events(1)));
        let much_later = now + Duration::from_secs(1_000);
        let too_many = take(&acme, 51, much_later);
        assert_eq!(too_many, Err(Exceeded::Events(1)), "no more than a burst");
        assert!(TenantRate::new(0, 0, 1).is_none());
    }

    #[test]
    fn each_tenant_has_its_bytes_of_the_day() {
        let rate = TenantRate::new(0, 1_000, 20).unwrap();
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::default());
        let now = Instant::now();
        let take = |tenant, bytes, at| rate.take(tenant, (1_000_000, bytes), now, at);
        assert_eq!(take(&acme, 900, DAY), Ok(()));
        assert_eq!(take(&acme, 101, DAY), Err(Exceeded::Bytes(3_600)));
        assert_eq!(
            take(&acme, 100, DAY),
            Ok(()),
            "what is refused takes nothing"
        );
        assert_eq!(take(&other, 1_000, DAY), Ok(()));
        let midnight = DAY + time::Duration::HOUR;
        assert_eq!(take(&acme, 1_000, midnight), Ok(()));
        assert_eq!(take(&acme, 1, midnight), Err(Exceeded::Bytes(86_400)));
    }
}
