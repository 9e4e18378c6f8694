//! Audits: everything recomputed from the rows, slice by slice, by one processor at a time
//! (docs/decisions/0028). After each slice it rests, and the longer the more is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use domain::fold::Extensions;
use eventlog::Source as _;
use eventlog::kafka::Handle;
use store::audit::{self, Audit, Finding, FindingKind, LogEnd, Progress};
use store::pool::Client;
use store::{Database, Error, behind};
use time::{Date, OffsetDateTime, Time};
use tokio::time::Instant;
use uuid::Uuid;

use crate::metrics::AuditMetrics;
use crate::rest::{self, Storing};
use crate::state::Sources;

/// How often it is looked for an audit to be done.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest rest after a slice.
const REST: Duration = Duration::from_millis(5);
/// How long it takes at most until where Kafka ends is known.
const ENDS_KNOWN: Duration = Duration::from_secs(5);

/// The task that does audits.
pub(crate) struct Audits {
    pub(crate) db: Database,
    pub(crate) extensions: Arc<Extensions>,
    pub(crate) sources: Sources,
    pub(crate) metrics: AuditMetrics,
    /// When, each day, one is done by itself.
    pub(crate) nightly: Option<Time>,
    pub(crate) owner: Uuid,
}

/// An audit under way.
struct Run<'a> {
    of: &'a Audits,
    audit: Audit,
    client: Client,
    storing: Storing,
    /// When the slice began.
    began: Instant,
}

/// Why an audit does not go on.
enum Stopped {
    /// Another processor goes on with it.
    Lost,
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Audits {
    /// Does the audits that are asked for, until dropped. What it had begun another begins again.
    pub(crate) async fn run(self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "audits must wait");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Where the partitions of Kafka end that this process reads.
    fn ends(&self) -> Vec<LogEnd> {
        let end = |lag: eventlog::PartitionLag| {
            Some(LogEnd {
                topic: lag.topic.to_string(),
                partition: lag.partition,
                end: lag.high?,
            })
        };
        let lags = self.sources.kafka.iter().flat_map(Handle::lag);
        lags.filter_map(end).collect()
    }

    async fn look(&self) -> Result<(), Error> {
        let client = self.db.client().await?;
        if let Some(at) = self.nightly {
            let now = service::clock::now();
            let mut due = now.replace_time(at);
            if due > now {
                due -= time::Duration::days(1);
            }
            audit::nightly(&client, service::clock::fresh_id(), due).await?;
        }
        self.metrics
            .unrepaired
            .set(audit::unrepaired(&client).await?);
        let Some(audit) = audit::claim(&client, self.owner).await? else {
            return Ok(());
        };
        let mut run = Run {
            of: self,
            audit,
            client,
            storing: Storing::new(),
            began: Instant::now(),
        };
        let problem = match run.everything().await {
            Ok(()) => None,
            Err(Stopped::Lost) => return Ok(()),
            Err(Stopped::Failed(error)) => Some(error.to_string()),
        };
        audit::end(&run.client, &run.audit, self.owner, problem.as_deref()).await?;
        let ended = audit::list(&run.client, Some(run.audit.id), 1).await?;
        if let Some(ended) = ended.first()
            && (ended.findings > 0 || problem.is_some())
        {
            tracing::error!(
                audit.id = %ended.id, findings = ended.findings, repaired = ended.repaired, problem,
                "an audit found that what is kept differs from the rows"
            );
        }
        Ok(())
    }
}

impl Run<'_> {
    async fn everything(&mut self) -> Result<(), Stopped> {
        let kept = audit::kept_from(&self.client).await?;
        let kept = kept.map(|from| (from + time::Duration::days(1)).date());
        let first = self.audit.from_day.max(kept);
        let last = self.audit.until_day;
        let tenants = audit::tenants(&self.client).await?;
        let erased = audit::erased(&self.client).await?;
        let misplaced = self.rows(&tenants, first, last).await?;
        let lost = self.ids(&misplaced, first, last).await?;
        self.counts(&tenants, &erased, &lost, first, last).await?;
        self.streams(&erased).await?;
        self.positions().await?;
        self.projections().await
    }

    async fn rows(
        &mut self,
        tenants: &[String],
        first: Option<Date>,
        last: Option<Date>,
    ) -> Result<HashSet<Uuid>, Stopped> {
        let mut misplaced = HashSet::new();
        for tenant in tenants {
            let mut from = first.unwrap_or(Date::MIN.replace_year(1).unwrap_or(Date::MIN));
            while let Some(day) = self.day(tenant, from, last).await? {
                let found = audit::strays(&self.client, tenant, day).await?;
                let elsewhere = found
                    .iter()
                    .filter(|one| one.kind == FindingKind::IdMisplaced);
                misplaced.extend(elsewhere.flat_map(|one| one.events.iter().copied()));
                self.slice("rows", 0, found).await?;
                let Some(next) = day.next_day() else { break };
                from = next;
            }
        }
        Ok(misplaced)
    }

    async fn day(
        &self,
        tenant: &str,
        from: Date,
        last: Option<Date>,
    ) -> Result<Option<Date>, Error> {
        let day = audit::next_day(&self.client, tenant, from).await?;
        Ok(day.filter(|day| last.is_none_or(|last| *day <= last)))
    }

    /// The tenants and days whose rows are lost.
    async fn ids(
        &mut self,
        misplaced: &HashSet<Uuid>,
        first: Option<Date>,
        last: Option<Date>,
    ) -> Result<HashSet<(String, Date)>, Stopped> {
        let start = first.map(|day| day.midnight().assume_utc());
        let end = last.and_then(Date::next_day);
        let within = (start, end.map(|day| day.midnight().assume_utc()));
        let mut lost = HashSet::new();
        let mut cursor = None;
        loop {
            let (found, next, count) =
                audit::ids(&self.client, cursor.as_ref(), misplaced, within).await?;
            for one in found.iter().filter(|one| one.kind == FindingKind::RowLost) {
                let day = domain::timestamp::parse(&one.expected).map(OffsetDateTime::date);
                lost.extend(one.tenant.clone().zip(day));
            }
            self.slice("ids", count, found).await?;
            if next.is_none() {
                return Ok(lost);
            }
            cursor = next;
        }
    }

    async fn counts(
        &mut self,
        tenants: &[String],
        erased: &HashMap<String, bool>,
        lost: &HashSet<(String, Date)>,
        first: Option<Date>,
        last: Option<Date>,
    ) -> Result<(), Stopped> {
        for tenant in tenants {
            let mut from = first.unwrap_or(Date::MIN.replace_year(1).unwrap_or(Date::MIN));
            while let Some(day) = self.day(tenant, from, last).await? {
                let is_lost = lost.contains(&(tenant.clone(), day));
                let (mut found, events) =
                    audit::counts_of_day(&mut self.client, tenant, day, is_lost).await?;
                // Those of users who were erased are still counted.
                if erased.get(tenant).copied().unwrap_or(false) {
                    found.retain(|one| !one.is_surplus());
                }
                self.slice("counts", events, found).await?;
                let Some(next) = day.next_day() else { break };
                from = next;
            }
        }
        Ok(())
    }

    async fn streams(&mut self, erased: &HashMap<String, bool>) -> Result<(), Stopped> {
        let mut cursor = None;
        loop {
            let (mut found, next, count) = audit::streams(&self.client, cursor.as_ref()).await?;
            // What was erased leaves its number free.
            found.retain(|one| {
                let of_erased = one
                    .tenant
                    .as_ref()
                    .is_some_and(|name| erased.contains_key(name));
                one.kind != FindingKind::StreamGap || !of_erased
            });
            self.slice("streams", count, found).await?;
            if next.is_none() {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn positions(&mut self) -> Result<(), Stopped> {
        let mut found = audit::positions(&self.client, &self.of.ends()).await?;
        if !found.is_empty() {
            tokio::time::sleep(ENDS_KNOWN).await;
            let ends = self.of.ends();
            found.retain(|one| one.is_beyond(&ends));
        }
        self.slice("positions", 0, found).await
    }

    async fn projections(&mut self) -> Result<(), Stopped> {
        for of in audit::projections(&self.client).await? {
            let mut cursor: Option<String> = None;
            loop {
                let extensions = &self.of.extensions;
                let (found, next, count) =
                    audit::states(&self.client, extensions, &of, cursor.as_deref()).await?;
                self.slice("projections", count, found).await?;
                if next.is_none() {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    /// Repairs what was found if that is asked for, notes it, and rests.
    async fn slice(
        &mut self,
        phase: &str,
        checked: i64,
        found: Vec<Finding>,
    ) -> Result<(), Stopped> {
        let mut noted = Vec::with_capacity(found.len());
        for finding in found {
            let repaired = self.audit.repairs
                && match audit::repair(&mut self.client, &self.of.extensions, &finding).await {
                    Ok(repaired) => repaired,
                    Err(error) => {
                        tracing::warn!(%error, subject = finding.subject, "not repaired");
                        false
                    }
                };
            noted.push((finding, repaired));
        }
        let progress = Progress {
            phase,
            checked,
            found: &noted,
        };
        let owner = self.of.owner;
        if !audit::progress(&mut self.client, &self.audit, owner, &progress).await? {
            return Err(Stopped::Lost);
        }
        self.storing.look(behind::stored(&self.client).await?.0);
        let pause = self
            .storing
            .rest(self.began.elapsed(), Duration::ZERO, rest::MINUTES);
        tokio::time::sleep(pause.max(REST)).await;
        self.began = Instant::now();
        Ok(())
    }
}
