//! How many events a tenant may send in a second: one that sends without end must not take the log, the
//! database and the place of all others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use domain::TenantId;

/// Seconds of its rate that a tenant may send at once after a pause.
const BURST: f64 = 5.0;

/// With so many tenants those are forgotten that may send all again.
const MOST_KNOWN: usize = 10_000;

/// What each tenant has left.
#[derive(Debug)]
pub struct TenantRate {
    /// Events a second; each gateway counts for itself.
    rate: f64,
    most: f64,
    left: Mutex<HashMap<TenantId, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    events: f64,
    at: Instant,
}

impl TenantRate {
    /// So many events a second; `None` for no limit. A whole batch may always be sent at once.
    #[must_use]
    pub fn new(rate: u32, max_batch_events: usize) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let most = (f64::from(rate) * BURST).max(max_batch_events as f64);
        (rate > 0).then(|| Self {
            rate: f64::from(rate),
            most,
            left: Mutex::default(),
        })
    }

    /// Takes so many events from what the tenant has left.
    ///
    /// # Errors
    /// It has fewer: after how many seconds it will have them.
    pub fn take(&self, tenant: &TenantId, events: usize, now: Instant) -> Result<(), u32> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if !left.contains_key(tenant) {
            if left.len() >= MOST_KNOWN {
                // Whoever has sent nothing for that long has all again.
                let all = self.most / self.rate;
                left.retain(|_, bucket| {
                    now.saturating_duration_since(bucket.at).as_secs_f64() < all
                });
            }
            let bucket = Bucket {
                events: self.most,
                at: now,
            };
            left.insert(tenant.clone(), bucket);
        }
        let Some(bucket) = left.get_mut(tenant) else {
            return Ok(());
        };
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.events = (bucket.events + since * self.rate).min(self.most);
        bucket.at = now;
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let missing = events as f64 - bucket.events;
        if missing <= 0.0 {
            bucket.events = -missing;
            return Ok(());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number, and far too large ones are cut"
        )]
        Err((missing / self.rate).ceil().max(1.0) as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_tenant_has_its_rate_and_a_burst_of_it() {
        let rate = TenantRate::new(10, 20).unwrap();
        let (acme, other) = (TenantId::parse("acme").unwrap(), TenantId::default());
        let now = Instant::now();
        assert_eq!(rate.take(&acme, 50, now), Ok(()));
        assert_eq!(rate.take(&acme, 1, now), Err(1));
        assert_eq!(rate.take(&acme, 20, now), Err(2));
        assert_eq!(rate.take(&other, 50, now), Ok(()), "the other's is its own");
        let later = now + Duration::from_secs(1);
        assert_eq!(rate.take(&acme, 10, later), Ok(()));
        assert_eq!(rate.take(&acme, 1, later), Err(1));
        let much_later = now + Duration::from_secs(1_000);
        assert_eq!(
            rate.take(&acme, 51, much_later),
            Err(1),
            "no more than a burst"
        );
        assert!(TenantRate::new(0, 1).is_none());
    }
}
