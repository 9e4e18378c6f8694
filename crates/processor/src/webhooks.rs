//! Webhooks: events are sent to the endpoints of subscriptions. A kind of [`crate::jobs`].
//!
//! An endpoint has a number of calls at a time of its own, and a breaker: after failures in a row nothing
//! is begun for a while, so that what waits does not use up its attempts on an endpoint that is down.

mod breaker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Event, subject};
use serde_json::json;
use store::outbox::{Message as Announcement, Sinks};
use store::subscriptions::Subscription;
use store::webhooks::{self, Attempt, Consequences, End};
use store::work::{self, Claimed};
use store::{Database, Error};
use tokio::time::Instant;
use uuid::Uuid;
use webhook::{Answer, Client, Message, Secret};

use crate::config::WebhookLimits;
use crate::jobs::{Done, Ended, Jobs, Runnable, jitter};
use crate::metrics::WebhookMetrics;
use crate::rules::{RuleCache, Rules};
use breaker::Breaker;

/// Longest time that an endpoint can ask to be left alone for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// The status of an endpoint that takes events, but not so many.
const TOO_MANY: u16 = 429;
/// Beyond what the client allows itself.
const MARGIN: Duration = Duration::from_secs(2);
/// How often the log is shortened.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// How often it is counted what there is to do.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The kind of work that webhooks are.
pub(crate) struct Webhooks {
    pub(crate) db: Database,
    pub(crate) rules: RuleCache,
    pub(crate) client: Client,
    pub(crate) limits: WebhookLimits,
    /// Where it is announced that one is disabled.
    pub(crate) announces: Sinks,
    pub(crate) metrics: WebhookMetrics,
    pub(crate) breakers: Mutex<HashMap<Uuid, Breaker>>,
    /// Whose turn it is to be begun first, while there is more to do than can be under way.
    pub(crate) turn: AtomicUsize,
}

impl Jobs for Webhooks {
    type Outcome = Answer;

    // Receivers are promised a quarter of a second.
    const RESTS: bool = false;

    fn runnable(&self, rules: &Rules) -> Vec<Runnable> {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.retain(|id, _| rules.webhooks.contains_key(id));
        let now = Instant::now();
        let mut open = 0;
        let of = |id: &Uuid| {
            let breaker = breakers.entry(*id).or_default();
            let concurrency = breaker.room(now, self.limits.concurrency);
            open += i64::from(concurrency == 0);
            (concurrency > 0).then(|| Runnable {
                rule_id: *id,
                concurrency,
                timeout: self.limits.http.timeout + MARGIN,
            })
        };
        let mut runnable: Vec<Runnable> = rules.webhooks.keys().filter_map(of).collect();
        self.metrics.open.set(open);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(runnable.len()).unwrap_or(0);
        runnable.rotate_left(first);
        runnable
    }

    async fn call(&self, claimed: &Claimed, event: &Arc<Event>) -> Answer {
        let Some(subscription) = self.subscription(claimed.rule_id) else {
            return Answer {
                error: Some("the subscription is not enabled any more".to_owned()),
                ..Answer::default()
            };
        };
        let now = service::clock::now();
        let previous = subscription.previous.as_ref();
        let previous = previous.filter(|(_, until)| *until > now);
        let secrets =
            std::iter::once(&subscription.secret).chain(previous.map(|(secret, _)| secret));
        let secrets = secrets.filter_map(|secret| Secret::parse(secret.expose()).ok());
        let secrets: Vec<Secret> = secrets.collect();
        let id = event.event_id.to_string();
        let format = subscription.settings.format;
        let body = format.write(event).into();
        let (at, kind) = (now.unix_timestamp(), format.media_type());
        let message = Message::signed(&id, at, kind, body, &secrets);
        self.client
            .send(&subscription.settings.callback_url, message)
            .await
    }

    async fn record(&self, done: &[Done<Answer>]) -> Result<Vec<Duration>, Error> {
        let mut consequences = Consequences {
            disable_after: self.limits.disable_after,
            ..Consequences::default()
        };
        let attempts = done.iter().map(|one| self.attempt(one, &mut consequences));
        let attempts: Vec<Attempt> = attempts.collect();
        let told = |tenant: &str, id, reason: &str| {
            tracing::warn!(subscription.id = %id, reason, "a subscription is disabled");
            disabled(tenant, id, reason)
        };
        webhooks::record(&self.db, &attempts, &consequences, self.announces, told).await?;
        let mut again = self.settled(&attempts);
        for attempt in &attempts {
            let outcome = match attempt.end {
                End::Delivered => "delivered",
                End::Retry(pause) => {
                    again.push(pause);
                    "retry"
                }
                End::Failed => "failed",
                End::Gone => continue,
            };
            self.metrics.attempts.with_label_values(&[outcome]).inc();
            self.metrics.seconds.observe(attempt.took.as_secs_f64());
        }
        Ok(again)
    }
}

impl Webhooks {
    /// Shortens the log of attempts until dropped.
    pub(crate) async fn forget(db: Database, log: Duration) {
        let mut every = tokio::time::interval(FORGET_EVERY);
        loop {
            every.tick().await;
            match webhooks::forget(&db, log).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "old attempts of webhooks are removed"),
                Err(error) => {
                    tracing::debug!(error = %error, "the log of webhooks cannot be shortened yet");
                }
            }
        }
    }

    /// Says what there is still to do, until dropped.
    pub(crate) async fn watch(db: Database, metrics: WebhookMetrics) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            let waiting = async { work::waiting(&*db.client().await?).await };
            match waiting.await {
                Ok(waiting) => {
                    metrics.waiting.set(waiting.deliveries);
                    metrics.overdue.set(waiting.overdue);
                }
                Err(error) => {
                    tracing::debug!(error = %error, "what webhooks have to do cannot be counted yet");
                }
            }
        }
    }

    fn subscription(&self, id: Uuid) -> Option<Arc<Subscription>> {
        self.rules.known()?.webhooks.get(&id).cloned()
    }

    /// What is recorded of an attempt, and what follows from it.
    fn attempt(&self, done: &Done<Answer>, consequences: &mut Consequences) -> Attempt {
        let Done {
            claimed,
            event,
            ended,
            took,
        } = done;
        let broken = |error: String| Answer {
            error: Some(error),
            ..Answer::default()
        };
        let answer = match ended {
            Ended::Returned(answer) => answer.clone(),
            Ended::TimedOut(_) => broken("the endpoint did not answer in time".to_owned()),
            Ended::Panicked(words) => broken(format!("panicked: {words}")),
            Ended::Gone => Answer::default(),
        };
        let id = claimed.rule_id;
        let subscription = self.subscription(id);
        let failing = subscription
            .as_ref()
            .is_some_and(|one| one.failing_since.is_some());
        let known = {
            let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
            breakers.get(&id).and_then(|breaker| breaker.failing)
        };
        let known = known.unwrap_or(failing);
        let end = match ended {
            Ended::Gone => End::Gone,
            _ if answer.delivered() => {
                if known {
                    consequences.recovered.push(id);
                }
                End::Delivered
            }
            _ => {
                if !known {
                    consequences.failing.push(id);
                }
                self.failed(claimed, &answer, subscription.as_deref(), consequences)
            }
        };
        Attempt {
            claimed: claimed.clone(),
            event_type: event
                .as_ref()
                .map_or_else(String::new, |event| event.event_type.clone()),
            end,
            error: (end != End::Delivered).then(|| answer.why()),
            status: answer.status,
            response: answer.excerpt,
            took: *took,
        }
    }

    fn failed(
        &self,
        claimed: &Claimed,
        answer: &Answer,
        subscription: Option<&Subscription>,
        consequences: &mut Consequences,
    ) -> End {
        if answer.gone() {
            consequences.gone.push(claimed.rule_id);
            return End::Failed;
        }
        let Some(subscription) = subscription else {
            // It was disabled meanwhile: what is to be done waits.
            return End::Retry(Duration::from_secs(1));
        };
        let attempt = u32::try_from(claimed.attempt).unwrap_or(u32::MAX);
        let jitter = jitter(claimed.event_id);
        let Some(pause) = subscription.settings.retry_policy.pause(attempt, jitter) else {
            return End::Failed;
        };
        End::Retry(pause.max(answer.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER)))
    }

    /// Tells the breakers; returns when those that are open let the next one through.
    fn settled(&self, attempts: &[Attempt]) -> Vec<Duration> {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut again = vec![];
        for attempt in attempts {
            let breaker = breakers.entry(attempt.claimed.rule_id).or_default();
            match attempt.end {
                End::Delivered => breaker.succeeded(),
                // It is well, and says when it wants this one again.
                _ if attempt.status == Some(TOO_MANY) => {}
                End::Retry(_) | End::Failed => again.extend(breaker.failed(now)),
                End::Gone => {}
            }
        }
        again
    }
}

/// `event.subscription.disabled`.
fn disabled(tenant: &str, id: Uuid, reason: &str) -> Announcement {
    let now = domain::timestamp::format(service::clock::now());
    let payload =
        json!({"subscription_id": id, "tenant_id": tenant, "reason": reason, "disabled_at": now});
    Announcement {
        tenant_id: tenant.to_owned(),
        subject: subject::SUBSCRIPTION_DISABLED.to_owned(),
        key: id.to_string().into_bytes(),
        payload: payload.to_string().into_bytes(),
    }
}
