//! How much a tenant may send, events in a second, bytes and types in a day: one that sends without end
//! must not take the log, the database and the place of all others.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use domain::TenantId;
use domain::tenant_limits::TenantLimits;
use time::{Date, OffsetDateTime};

/// Seconds of its rate that a tenant may send at once after a pause.
const BURST: f64 = 5.0;

/// With so many tenants those are forgotten that may send all again.
const MOST_KNOWN: usize = 10_000;

/// What each tenant has left. Each gateway counts for itself.
#[derive(Debug)]
pub struct TenantRate {
    /// Of a tenant that has none of its own.
    settings: TenantLimits,
    max_batch_events: usize,
    left: Mutex<HashMap<TenantId, Bucket>>,
    hasher: RandomState,
}

/// What a tenant has too much of, and after how many seconds it may send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Events in this second.
    Events(u32),
    /// Bytes on this day.
    Bytes(u32),
    /// Types on this day.
    Types(u32),
}

#[derive(Debug)]
struct Bucket {
    /// The limit that `events` are of.
    rate: i64,
    events: f64,
    at: Instant,
    day: Date,
    /// Whether it has a limit of the day.
    daily: bool,
    bytes: u64,
    /// Hashes of the day's types: at most as many as the tenant may send.
    types: HashSet<u64>,
}

impl TenantRate {
    /// With these limits for tenants that have none of their own. A whole batch may always be sent at
    /// once.
    #[must_use]
    pub fn new(settings: TenantLimits, max_batch_events: usize) -> Self {
        Self {
            settings,
            max_batch_events,
            left: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Takes these events, each with its type and its bytes, from what the tenant has left under its own
    /// limits, and the settings where it has none.
    ///
    /// # Errors
    /// It has fewer: of what, and after how many seconds it will have them. Nothing is taken then.
    pub fn take<'a>(
        &self,
        tenant: &TenantId,
        own: TenantLimits,
        sent: impl Iterator<Item = (&'a str, usize)>,
        now: impl FnOnce() -> (Instant, OffsetDateTime),
    ) -> Result<(), Exceeded> {
        let limits = own.or(self.settings);
        let limit = |value: Option<i64>| value.filter(|limit| *limit > 0);
        let rate = limit(limits.events_per_second);
        let most_bytes = limit(limits.bytes_per_day);
        let most_types = limit(limits.types_per_day);
        if rate.or(most_bytes).or(most_types).is_none() {
            return Ok(());
        }
        let (now, at) = now();
        let (mut events, mut bytes, mut types) = (0_usize, 0_u64, HashSet::new());
        for (event_type, size) in sent {
            events += 1;
            bytes += size as u64;
            if most_types.is_some() {
                types.insert(self.hasher.hash_one(event_type));
            }
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = bucket(&mut left, tenant, now, at.date());
        bucket.daily = most_bytes.or(most_types).is_some();
        let sent = bucket.bytes.saturating_add(bytes);
        if most_bytes.is_some_and(|most| sent > most.unsigned_abs()) {
            return Err(Exceeded::Bytes(until_midnight(at)));
        }
        types.retain(|one| !bucket.types.contains(one));
        let known = (bucket.types.len() + types.len()) as u64;
        if most_types.is_some_and(|most| !types.is_empty() && known > most.unsigned_abs()) {
            return Err(Exceeded::Types(until_midnight(at)));
        }
        if let Some(rate) = rate {
            self.spend(bucket, rate, events, now)?;
        }
        bucket.bytes = sent;
        bucket.types.extend(types);
        Ok(())
    }

    /// Takes so many events from what is left of the rate.
    fn spend(
        &self,
        bucket: &mut Bucket,
        limit: i64,
        events: usize,
        now: Instant,
    ) -> Result<(), Exceeded> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "batches and rates are far below 2^52"
        )]
        let (rate, events, batch) = (limit as f64, events as f64, self.max_batch_events as f64);
        let most = (rate * BURST).max(batch);
        if bucket.rate != limit {
            (bucket.rate, bucket.events) = (limit, most);
        }
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.events = (bucket.events + since * rate).min(most);
        bucket.at = now;
        let missing = events - bucket.events;
        if missing > 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive number, and far too large ones are cut"
            )]
            return Err(Exceeded::Events((missing / rate).ceil().max(1.0) as u32));
        }
        bucket.events = -missing;
        Ok(())
    }
}

/// What the tenant has sent on this day.
fn bucket<'a>(
    left: &'a mut HashMap<TenantId, Bucket>,
    tenant: &TenantId,
    now: Instant,
    day: Date,
) -> &'a mut Bucket {
    if !left.contains_key(tenant) && left.len() >= MOST_KNOWN {
        // A tenant that has sent nothing for that long has all again, but for what is of the day.
        left.retain(|_, bucket| {
            let pause = now.saturating_duration_since(bucket.at).as_secs_f64();
            pause < BURST || bucket.daily && bucket.day == day
        });
    }
    let bucket = left.entry(tenant.clone()).or_insert_with(|| Bucket {
        rate: 0,
        events: 0.0,
        at: now,
        day,
        daily: false,
        bytes: 0,
        types: HashSet::new(),
    });
    if bucket.day != day {
        (bucket.day, bucket.bytes) = (day, 0);
        bucket.types.clear();
    }
    bucket
}

/// Seconds until the next day begins, in UTC.
fn until_midnight(at: OffsetDateTime) -> u32 {
    let (hour, minute, second) = at.to_hms();
    let gone = (u32::from(hour) * 60 + u32::from(minute)) * 60 + u32::from(second);
    86_400_u32.saturating_sub(gone).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;

    const DAY: OffsetDateTime = datetime!(2026-11-29 23:00 UTC);
    const NONE: TenantLimits = TenantLimits {
        events_per_second: None,
        bytes_per_day: None,
        types_per_day: None,
        connections: None,
    };

    fn events(count: usize, bytes: usize) -> impl Iterator<Item = (&'static str, usize)> {
        std::iter::repeat_n(("a", bytes), count)
    }

    fn tenants() -> (TenantId, TenantId) {
        (TenantId::parse("acme").unwrap(), TenantId::default())
    }

    #[test]
    fn each_tenant_has_its_rate_and_a_burst_of_it() {
        let settings = TenantLimits {
            events_per_second: Some(10),
            ..NONE
        };
        let rate = TenantRate::new(settings, 20);
        let ((acme, other), now) = (tenants(), Instant::now());
        let take =
            |tenant, count, now| rate.take(tenant, NONE, events(count, 1 << 40), || (now, DAY));
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
    }

    #[test]
    fn each_tenant_has_its_bytes_of_the_day() {
        let settings = TenantLimits {
            bytes_per_day: Some(1_000),
            ..NONE
        };
        let rate = TenantRate::new(settings, 20);
        let ((acme, other), now) = (tenants(), Instant::now());
        let take = |tenant, bytes, at| rate.take(tenant, NONE, events(1, bytes), || (now, at));
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

    #[test]
    fn each_tenant_has_its_types_of_the_day() {
        let settings = TenantLimits {
            types_per_day: Some(2),
            ..NONE
        };
        let rate = TenantRate::new(settings, 20);
        let ((acme, other), now) = (tenants(), Instant::now());
        let take = |tenant, types: &[&'static str], at| {
            rate.take(tenant, NONE, types.iter().map(|one| (*one, 1)), || {
                (now, at)
            })
        };
        assert_eq!(
            take(&acme, &["a", "b", "c"], DAY),
            Err(Exceeded::Types(3_600))
        );
        assert_eq!(take(&acme, &["c", "b", "c"], DAY), Ok(()));
        assert_eq!(take(&acme, &["a"], DAY), Err(Exceeded::Types(3_600)));
        assert_eq!(take(&acme, &["b"], DAY), Ok(()), "known types go on");
        assert_eq!(take(&other, &["a"], DAY), Ok(()));
        let midnight = DAY + time::Duration::HOUR;
        assert_eq!(take(&acme, &["a"], midnight), Ok(()));
    }

    #[test]
    fn a_tenants_own_limits_come_before_the_settings_and_hold_at_once() {
        let settings = TenantLimits {
            events_per_second: Some(1),
            bytes_per_day: Some(100),
            ..NONE
        };
        let rate = TenantRate::new(settings, 1);
        let ((acme, _), now) = (tenants(), Instant::now());
        let take = |own, count, bytes| rate.take(&acme, own, events(count, bytes), || (now, DAY));
        assert_eq!(take(NONE, 6, 0), Err(Exceeded::Events(1)));
        let own = TenantLimits {
            events_per_second: Some(10),
            ..NONE
        };
        assert_eq!(take(own, 50, 2), Ok(()));
        assert_eq!(
            take(own, 1, 1),
            Err(Exceeded::Bytes(3_600)),
            "of the settings"
        );
        let none = TenantLimits {
            events_per_second: Some(0),
            bytes_per_day: Some(0),
            ..NONE
        };
        assert_eq!(take(none, 1_000_000, 1 << 20), Ok(()), "0 is no limit");
        assert_eq!(take(NONE, 5, 0), Ok(()), "the settings hold again");
        assert_eq!(take(NONE, 1, 0), Err(Exceeded::Events(1)));
    }
}
