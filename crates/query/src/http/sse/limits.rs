//! The listeners of this process: their number is limited, of one user and in all, and they end
//! when the service stops.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use domain::TenantId;
use live::{Channel, Resume};
use service::Problem;
use service::auth::principal::Life;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::metrics::SseMetrics;

/// When a refused client may try again.
const RETRY_AFTER_SECONDS: u32 = 5;

/// How long the streams may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// All listeners of this process.
#[derive(Debug)]
pub struct Listeners {
    most: usize,
    most_of_user: usize,
    /// 0 is no limit.
    most_of_tenant: usize,
    present: Mutex<Present>,
    ending: Arc<Notify>,
    empty: Notify,
    metrics: SseMetrics,
}

#[derive(Debug, Default)]
struct Present {
    total: usize,
    of_user: HashMap<Channel, usize>,
    of_tenant: HashMap<TenantId, usize>,
    draining: bool,
}

impl Listeners {
    /// No listeners; at most `most` at a time, of them `most_of_user` of one user and `most_of_tenant` of
    /// one tenant, 0 for no limit.
    #[must_use]
    pub fn new(
        most: usize,
        most_of_user: usize,
        most_of_tenant: usize,
        metrics: SseMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_user,
            most_of_tenant,
            present: Mutex::default(),
            ending: Arc::default(),
            empty: Notify::new(),
            metrics,
        })
    }

    /// Admits one more; `None` while the service stops. `own` is what the tenant may have where the
    /// settings do not say it, 0 for no limit.
    ///
    /// # Errors
    /// 429 when there are too many.
    pub fn admit(
        self: &Arc<Self>,
        channel: &Channel,
        resume: Resume,
        own: Option<i64>,
    ) -> Result<Option<ConnectionPermit>, Problem> {
        let own = own.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        let most_of_tenant = own.unwrap_or(self.most_of_tenant);
        let mut present = self.present();
        let of_user = present.of_user.get(channel).copied().unwrap_or_default();
        let of_tenant = present
            .of_tenant
            .get(&channel.tenant)
            .copied()
            .unwrap_or_default();
        if present.draining {
            self.metrics.refused.with_label_values(&["draining"]).inc();
            return Ok(None);
        }
        let refusal = if present.total >= self.most {
            let detail = format!("{} connections are open, and no more may be", self.most);
            Some((
                "process_limit",
                Problem::too_many(detail, RETRY_AFTER_SECONDS),
            ))
        } else if of_user >= self.most_of_user {
            let detail = format!("The user has {of_user} open connections and may have no more");
            Some(("user_limit", Problem::too_many(detail, RETRY_AFTER_SECONDS)))
        } else if most_of_tenant > 0 && of_tenant >= most_of_tenant {
            let detail =
                format!("The tenant has {of_tenant} open connections and may have no more");
            Some((
                "tenant_limit",
                Problem::too_many(detail, RETRY_AFTER_SECONDS),
            ))
        } else {
            None
        };
        if let Some((reason, problem)) = refusal {
            self.metrics.refused.with_label_values(&[reason]).inc();
            return Err(problem);
        }
        present.total += 1;
        *present.of_user.entry(channel.clone()).or_default() += 1;
        *present.of_tenant.entry(channel.tenant.clone()).or_default() += 1;
        self.count(&present);
        let resume = match resume {
            Resume::Live => "live",
            Resume::After(_) => "after",
            Resume::Malformed => "malformed",
        };
        self.metrics.opened.with_label_values(&[resume]).inc();
        Ok(Some(ConnectionPermit {
            channel: channel.clone(),
            // Made under the lock: either it is notified of the end, or it was refused.
            ending: Box::pin(Arc::clone(&self.ending).notified_owned()),
            over: None,
            listeners: Arc::clone(self),
        }))
    }

    /// Admits no more and ends all streams; waits until they are gone, which takes no time unless
    /// one is just being opened.
    pub async fn drain(&self) {
        self.end();
        let gone = async {
            loop {
                let empty = self.empty.notified();
                if self.total() == 0 {
                    break;
                }
                empty.await;
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, gone).await.is_err() {
            tracing::warn!(
                streams = self.total(),
                "closing live streams that did not end in time"
            );
        }
    }

    fn end(&self) {
        self.present().draining = true;
        self.ending.notify_waiters();
    }

    /// The number of listeners.
    #[must_use]
    pub fn total(&self) -> usize {
        self.present().total
    }

    /// The metrics of the streams.
    #[must_use]
    pub fn metrics(&self) -> &SseMetrics {
        &self.metrics
    }

    fn leave(&self, channel: &Channel) {
        let mut present = self.present();
        present.total = present.total.saturating_sub(1);
        if let Entry::Occupied(mut user) = present.of_user.entry(channel.clone()) {
            *user.get_mut() -= 1;
            if *user.get() == 0 {
                user.remove();
            }
        }
        if let Entry::Occupied(mut tenant) = present.of_tenant.entry(channel.tenant.clone()) {
            *tenant.get_mut() -= 1;
            if *tenant.get() == 0 {
                tenant.remove();
            }
        }
        self.count(&present);
        if present.total == 0 {
            self.empty.notify_waiters();
        }
    }

    fn count(&self, present: &Present) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.connections.set(number(present.total));
        self.metrics.users.set(number(present.of_user.len()));
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of one listener; dropping it admits another.
#[derive(Debug)]
pub struct ConnectionPermit {
    channel: Channel,
    ending: Pin<Box<OwnedNotified>>,
    /// The end of the key that it was admitted with.
    over: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    listeners: Arc<Listeners>,
}

impl ConnectionPermit {
    /// The same until a key ends.
    #[must_use]
    pub fn within(mut self, life: Option<&Life>) -> Self {
        self.over = life.map(|life| Box::pin(life.over()));
        self
    }

    /// Ready when the service stops, or the key has ended. Not to be polled again after that.
    pub fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(over) = &mut self.over
            && over.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        self.ending.as_mut().poll(cx)
    }

    /// The metrics of the streams.
    #[must_use]
    pub fn metrics(&self) -> &SseMetrics {
        self.listeners.metrics()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.listeners.leave(&self.channel);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use prometheus::Registry;

    use super::*;

    fn listeners(most: usize, most_of_user: usize) -> Arc<Listeners> {
        let metrics = SseMetrics::register(&Registry::new()).unwrap();
        Listeners::new(most, most_of_user, 0, metrics)
    }

    fn user(name: &str) -> Channel {
        Channel::new(TenantId::default(), name)
    }

    fn status(admitted: Result<Option<ConnectionPermit>, Problem>) -> u16 {
        admitted.map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn permits_are_limited_and_given_back() {
        let all = listeners(3, 2);
        let (a, b) = (user("a"), user("b"));
        let first = all.admit(&a, Resume::Live, None).unwrap().unwrap();
        let second = all.admit(&a, Resume::Malformed, None).unwrap().unwrap();
        assert_eq!(status(all.admit(&a, Resume::Live, None)), 429);
        let third = all.admit(&b, Resume::Live, None).unwrap().unwrap();
        assert_eq!(status(all.admit(&b, Resume::Live, None)), 429);
        assert_eq!(all.metrics().connections.get(), 3);
        assert_eq!(all.metrics().users.get(), 2);
        drop((first, second));
        assert_eq!(all.metrics().users.get(), 1);
        assert_eq!(status(all.admit(&a, Resume::Live, None)), 200);
        drop(third);
        assert_eq!(all.total(), 0);
        assert!(all.present().of_user.is_empty());
    }

    #[test]
    fn a_tenant_is_limited_beside_others() {
        let metrics = SseMetrics::register(&Registry::new()).unwrap();
        let all = Listeners::new(10, 10, 2, metrics);
        let acme = |name: &str| Channel::new(TenantId::parse("acme").unwrap(), name);
        let first = all.admit(&acme("a"), Resume::Live, None).unwrap().unwrap();
        let second = all.admit(&acme("b"), Resume::Live, None).unwrap().unwrap();
        assert_eq!(status(all.admit(&acme("c"), Resume::Live, None)), 429);
        assert_eq!(status(all.admit(&user("c"), Resume::Live, None)), 200);
        drop(second);
        assert_eq!(status(all.admit(&acme("c"), Resume::Live, None)), 200);
        let own = |own| status(all.admit(&acme("c"), Resume::Live, Some(own)));
        assert_eq!((own(1), own(2), own(0)), (429, 200, 200), "its own limit");
        drop(first);
        assert!(all.present().of_tenant.is_empty());
    }

    #[test]
    fn the_end_reaches_those_who_listen_and_refuses_those_who_come() {
        let all = listeners(3, 3);
        let mut permit = all.admit(&user("a"), Resume::Live, None).unwrap().unwrap();
        let mut other = all.admit(&user("a"), Resume::Live, None).unwrap().unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(permit.poll_ending(&mut cx).is_pending());
        all.end();
        assert!(permit.poll_ending(&mut cx).is_ready());
        // Also one that never asked before.
        assert!(other.poll_ending(&mut cx).is_ready());
        assert!(all.admit(&user("a"), Resume::Live, None).unwrap().is_none());
    }
}
