//! Finds anomalies in what is stored (docs/decisions/0028): one processor at a time judges the counts of
//! every minute that has ended, and writes what it found in the transaction that moves the clock on.

mod notice;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::TenantId;
use domain::anomaly::{self, Alert, ChangeKind, Kind};
use eventlog::Source as _;
use eventlog::kafka::Handle;
use store::anomalies::{self, Judged, StoredAlert, at_minute, minute_of};
use store::log::{NewRow, partition_of};
use store::outbox::Sinks;
use store::pool::Client;
use store::{Database, Error};
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::AnomalyConfig;
use crate::metrics::AnomalyMetrics;
use crate::state::Sources;
use notice::AlertNotice;

/// A minute is judged so long after its end: events take a moment to be stored.
const SETTLE: Duration = Duration::from_secs(10);
/// Minutes that are judged together, and those that are caught up with at most.
const TOGETHER: i64 = 60;
const CATCH_UP: i64 = 6 * 60;
/// Where so many records wait to be stored, or one for so long, the counts say too little.
const BEHIND_RECORDS: i64 = 10_000;
const BEHIND: Duration = Duration::from_secs(60);
/// How often old counts are removed.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// The task that finds anomalies.
pub(crate) struct Anomalies {
    pub(crate) db: Database,
    pub(crate) config: AnomalyConfig,
    pub(crate) sources: Sources,
    pub(crate) metrics: AnomalyMetrics,
    /// The topic of backend events, by its full name.
    pub(crate) topic: Arc<str>,
    /// Whether a relay sends what is left in the outbox.
    pub(crate) announces: Sinks,
    pub(crate) owner: Uuid,
}

impl Anomalies {
    /// Judges until dropped.
    pub(crate) async fn watch(self) {
        let Some(interval) = self.config.interval else {
            return;
        };
        let mut forgot: Option<Instant> = None;
        loop {
            match self.judge().await {
                // There is more to catch up with.
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "anomalies are not looked for now"),
            }
            if forgot.is_none_or(|at| at.elapsed() >= FORGET_EVERY) && self.forget().await.is_ok() {
                forgot = Some(Instant::now());
            }
            tokio::time::sleep(interval).await;
        }
    }

    async fn forget(&self) -> Result<(), Error> {
        let client = self.db.client().await?;
        let before = service::clock::now() - self.config.history;
        while anomalies::forget(&client, before).await? {}
        Ok(())
    }

    /// Judges what there is to judge; true if there is more.
    async fn judge(&self) -> Result<bool, Error> {
        let client = self.db.client().await?;
        let Some(before) = anomalies::claim(&client, self.owner).await? else {
            self.metrics.open.reset();
            return Ok(false);
        };
        let now = service::clock::now();
        let last = minute_of(now - SETTLE);
        if self.is_behind() {
            return Ok(false);
        }
        let next = before.map_or(last - TOGETHER, |at| minute_of(at) + 1);
        let first = next.max(last - CATCH_UP);
        if first > last {
            return Ok(false);
        }
        let until = last.min(first + TOGETHER - 1);
        let mut found = Found::default();
        let mut open: HashMap<TenantId, Vec<StoredAlert>> = HashMap::new();
        for stored in anomalies::open(&client).await? {
            open.entry(stored.tenant.clone()).or_default().push(stored);
        }
        let mut tenants = anomalies::tenants(&client, now).await?;
        tenants.extend(open.keys().cloned());
        tenants.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        tenants.dedup();
        for tenant in tenants {
            let open = open.remove(&tenant).unwrap_or_default();
            self.judge_tenant(&client, &tenant, open, first..=until, &mut found)
                .await?;
        }
        let partitions: Vec<i16> = found
            .notices
            .iter()
            .map(|notice| partition_of(&notice.key))
            .collect();
        let rows = found.notices.iter().zip(partitions);
        let rows: Vec<NewRow<'_>> = rows
            .map(|(notice, partition)| NewRow {
                partition,
                topic: &self.topic,
                key: Some(&notice.key),
                headers: &notice.headers,
                payload: Some(&notice.event),
            })
            .collect();
        let messages: Vec<_> = found
            .notices
            .iter()
            .map(|notice| notice.message.clone())
            .collect();
        let judged = Judged {
            from: before,
            until: at_minute(until),
            alerts: &found.alerts,
            messages: &messages,
            to: self.announces,
            events: &rows,
        };
        if !anomalies::record(&self.db, self.owner, &judged).await? {
            return Ok(false);
        }
        self.set_gauges(&found, until);
        Ok(until < last)
    }

    async fn judge_tenant(
        &self,
        client: &Client,
        tenant: &TenantId,
        open: Vec<StoredAlert>,
        minutes: std::ops::RangeInclusive<i64>,
        found: &mut Found,
    ) -> Result<(), Error> {
        let rules = anomalies::active(client, tenant).await?;
        let history = anomalies::history(client, tenant, &rules, minutes.clone()).await?;
        let Some(history) = history else {
            tracing::warn!(
                tenant = tenant.as_str(),
                "too many types, sources and APIs to look for anomalies in"
            );
            return Ok(());
        };
        let mut ids = HashMap::new();
        for stored in &open {
            ids.insert(key(&stored.alert), stored.alert_id);
        }
        let alerts = open.into_iter().map(|stored| stored.alert).collect();
        let judge = move || {
            let (changes, left) = anomaly::watch(&rules, &history, alerts, minutes);
            (changes, left, rules)
        };
        // Minutes caught up with, of many types, are more than a moment's work.
        let (changes, left, rules) = tokio::task::spawn_blocking(judge)
            .await
            .map_err(|error| Error::Conflict(error.to_string()))?;
        for change in changes {
            let of = key(&change.alert);
            if change.kind == ChangeKind::Opened {
                ids.insert(of.clone(), service::clock::fresh_id());
            }
            let Some(alert_id) = ids.get(&of).copied() else {
                continue;
            };
            let resolved = change.kind == ChangeKind::Resolved;
            let stored = StoredAlert {
                alert_id,
                tenant: tenant.clone(),
                alert: change.alert.clone(),
                resolved_at: resolved.then(|| at_minute(change.at)),
                updated_at: service::clock::now(),
            };
            let user = rules.iter().find(|rule| rule.name == change.alert.rule);
            let user = user.and_then(|rule| rule.user_id.clone());
            tracing::warn!(
                tenant = tenant.as_str(), rule = change.alert.rule, kind = change.alert.kind.as_str(),
                alert.id = %alert_id, state = change.kind.as_str(), "{}", change.alert.message()
            );
            found
                .notices
                .push(AlertNotice::of(&stored, change.kind, change.at, user));
            found.alerts.push(stored);
        }
        for alert in left {
            let Some(alert_id) = ids.get(&key(&alert)).copied() else {
                continue;
            };
            *found.open.entry(alert.kind).or_default() += 1;
            found.alerts.push(StoredAlert {
                alert_id,
                tenant: tenant.clone(),
                alert,
                resolved_at: None,
                updated_at: service::clock::now(),
            });
        }
        Ok(())
    }

    /// Whether there is so much to be stored still that the counts would mislead. Judging waits then, and
    /// catches up.
    fn is_behind(&self) -> bool {
        let log = self.sources.postgres.backlog();
        let oldest = log.and_then(|backlog| backlog.oldest).unwrap_or_default();
        let lags = self.sources.kafka.iter().flat_map(Handle::lag);
        let records: i64 = lags.filter_map(|lag| lag.lag).sum();
        records > BEHIND_RECORDS || oldest > BEHIND || self.sources.rewinds.records() > 0
    }

    fn set_gauges(&self, found: &Found, until: i64) {
        self.metrics.judged_until.set(until * 60);
        for kind in Kind::ALL {
            let count = found.open.get(kind).copied().unwrap_or(0);
            let open = self.metrics.open.with_label_values(&[kind.as_str()]);
            open.set(count);
        }
    }
}

/// What was found in these minutes.
#[derive(Default)]
struct Found {
    alerts: Vec<StoredAlert>,
    notices: Vec<AlertNotice>,
    open: HashMap<Kind, i64>,
}

/// What an alert is known by while it is open.
fn key(alert: &Alert) -> (String, String) {
    (alert.rule.clone(), alert.subject.clone())
}
