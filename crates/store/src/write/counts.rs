//! The step `counts`: the daily and hourly counts (S1-32 to S1-36). Written last in a transaction and in
//! sorted order: these rows are few and hot, and writers meet on them.

use std::collections::{BTreeMap, BTreeSet};

use domain::Event;
use time::{Date, OffsetDateTime, UtcOffset};
use tokio_postgres::{Client, Statement, Transaction};

use super::pending::Pending;
use super::types::Types;
use crate::error::Error;

const ADD_DAILY: &str = "insert into aggregated_events (tenant_id, event_type, date, count) \
    select * from unnest($1::text[], $2::text[], $3::date[], $4::int8[]) \
    on conflict (tenant_id, event_type, date) \
    do update set count = aggregated_events.count + excluded.count";

const ADD_HOURLY: &str = "insert into aggregated_events_hourly \
    (tenant_id, hour, event_type, event_source, event_category, count) \
    select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::int8[]) \
    on conflict (tenant_id, hour, event_type, event_source, event_category) \
    do update set count = aggregated_events_hourly.count + excluded.count";

type HourKey<'a> = (&'a str, OffsetDateTime, &'a str, &'static str, &'static str);

/// Counts of one batch, by the keys of both tables, sorted. Days and hours are UTC (S1-35).
#[derive(Debug, Default)]
struct Counts<'a> {
    hourly: BTreeMap<HourKey<'a>, i64>,
}

impl<'a> Counts<'a> {
    fn of(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut hourly = BTreeMap::new();
        for event in events {
            let key = (
                event.tenant_id.as_str(),
                hour_of(event.timestamp),
                event.event_type.as_str(),
                event.event_source.as_str(),
                event.event_category.as_str(),
            );
            *hourly.entry(key).or_default() += 1;
        }
        Self { hourly }
    }

    /// The types of each tenant's days.
    fn types(&self) -> BTreeMap<(&'a str, Date), BTreeSet<&'a str>> {
        let mut days: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (tenant, hour, event_type, ..) in self.hourly.keys() {
            let day = days.entry((*tenant, hour.date())).or_default();
            day.insert(*event_type);
        }
        days
    }

    /// Counts those types together that the bound leaves no place for; returns how many events that
    /// concerns.
    fn bound(&mut self, types: &Types) -> i64 {
        let mut others = 0;
        for ((tenant, hour, event_type, source, category), count) in
            std::mem::take(&mut self.hourly)
        {
            let counted_as = types.counted_as(tenant, hour.date(), event_type);
            if counted_as != event_type {
                others += count;
            }
            let key = (tenant, hour, counted_as, source, category);
            *self.hourly.entry(key).or_default() += count;
        }
        others
    }

    fn daily(&self) -> BTreeMap<(&'a str, &'a str, Date), i64> {
        let mut daily = BTreeMap::new();
        for ((tenant, hour, event_type, ..), count) in &self.hourly {
            *daily
                .entry((*tenant, *event_type, hour.date()))
                .or_default() += count;
        }
        daily
    }
}

/// The hour that an event of that time is counted in.
pub(crate) fn hour_of(at: OffsetDateTime) -> OffsetDateTime {
    let at = at.to_offset(UtcOffset::UTC);
    at.date()
        .with_hms(at.hour(), 0, 0)
        .map_or(at, time::PrimitiveDateTime::assume_utc)
}

/// The prepared statements of one writer's connection.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    daily: Statement,
    hourly: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let daily = client.prepare(ADD_DAILY).await?;
        let hourly = client.prepare(ADD_HOURLY).await?;
        Ok(Self { daily, hourly })
    }
}

/// Adds the new events to both tables. Returns how many are counted under the type that stands for
/// those beyond the bound.
pub(super) async fn add(
    tx: &Transaction<'_>,
    statements: &Statements,
    types: &mut Types,
    new: &[Pending<'_>],
) -> Result<u64, Error> {
    if new.is_empty() {
        return Ok(0);
    }
    let mut counts = Counts::of(new.iter().map(|pending| pending.event));
    types.learn(tx, &counts.types()).await?;
    let others = counts.bound(types);
    let (mut tenants, mut names, mut dates, mut sums) = (vec![], vec![], vec![], vec![]);
    for ((tenant, event_type, date), count) in counts.daily() {
        tenants.push(tenant);
        names.push(event_type);
        dates.push(date);
        sums.push(count);
    }
    tx.execute(&statements.daily, &[&tenants, &names, &dates, &sums])
        .await?;
    let mut hours = Vec::with_capacity(counts.hourly.len());
    let (mut sources, mut categories) = (vec![], vec![]);
    tenants.clear();
    names.clear();
    sums.clear();
    for ((tenant, hour, event_type, source, category), count) in &counts.hourly {
        tenants.push(tenant);
        hours.push(*hour);
        names.push(event_type);
        sources.push(*source);
        categories.push(*category);
        sums.push(*count);
    }
    tx.execute(
        &statements.hourly,
        &[&tenants, &hours, &names, &sources, &categories, &sums],
    )
    .await?;
    Ok(others.unsigned_abs())
}
