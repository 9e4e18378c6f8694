//! The step `counts`: the counts by day and hour (S1-32 to S1-36), and those by minute that anomalies are
//! found by. Written last in a transaction and in sorted order: these rows are few and hot, and writers
//! meet on them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use domain::Event;
use domain::anomaly::api_of;
use time::{Date, Duration, OffsetDateTime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement, Transaction};

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

const ADD_MINUTES: &str = "insert into event_minutes \
    (tenant, minute, event_type, event_source, api, count) \
    select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::int8[]) \
    on conflict (tenant, minute, event_type, event_source, api) \
    do update set count = event_minutes.count + excluded.count";

/// Events that came so long after they happened are no news: they are not counted by the minute.
const NEWS: Duration = Duration::days(35);
/// APIs of one batch, at most, that are counted each for itself; the name of the rest.
const APIS: usize = 200;
const OTHER_API: &str = "other";

type HourKey<'a> = (&'a str, OffsetDateTime, &'a str, &'static str, &'static str);

type MinuteKey<'a> = (&'a str, OffsetDateTime, &'a str, &'static str, Cow<'a, str>);

/// Counts of one batch, by the keys of the tables, sorted. Days and hours are UTC (S1-35).
#[derive(Debug, Default)]
pub(super) struct Counts<'a> {
    hourly: BTreeMap<HourKey<'a>, i64>,
    minutes: BTreeMap<MinuteKey<'a>, i64>,
}

/// What an event is counted by. Each event of a batch is compared with several: first by what costs least to
/// compare and tells most apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Kind<'a> {
    /// Minutes since 1970.
    minute: i64,
    event_type: &'a str,
    source: &'static str,
    category: &'static str,
    tenant: &'a str,
    /// Counted by the minute too: the API.
    news: Option<Cow<'a, str>>,
}

impl<'a> Counts<'a> {
    pub(super) fn of(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut kinds: BTreeMap<Kind<'a>, i64> = BTreeMap::new();
        let mut apis = BTreeSet::new();
        for event in events {
            let is_news = event.received_at - event.timestamp <= NEWS;
            let kind = Kind {
                minute: event.timestamp.unix_timestamp().div_euclid(60),
                event_type: &event.event_type,
                source: event.event_source.as_str(),
                category: event.event_category.as_str(),
                tenant: event.tenant_id.as_str(),
                news: is_news.then(|| api(event, &mut apis)),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let mut counts = Self::default();
        for (kind, count) in kinds {
            let Kind {
                tenant,
                event_type,
                source,
                category,
                ..
            } = kind;
            let minute = at(kind.minute * 60);
            let key = (tenant, hour_of(minute), event_type, source, category);
            *counts.hourly.entry(key).or_default() += count;
            if let Some(api) = kind.news {
                let key = (tenant, minute, event_type, source, api);
                *counts.minutes.entry(key).or_default() += count;
            }
        }
        counts
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
        for ((tenant, minute, event_type, source, api), count) in std::mem::take(&mut self.minutes)
        {
            let counted_as = types.counted_as(tenant, minute.date(), event_type);
            let key = (tenant, minute, counted_as, source, api);
            *self.minutes.entry(key).or_default() += count;
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

/// The API that an event is counted by: its own, if that is one of the first of its batch.
fn api<'a>(event: &Event, apis: &mut BTreeSet<String>) -> Cow<'a, str> {
    match api_of(&event.data) {
        None => "".into(),
        Some(api) if apis.contains(&api) => api.into(),
        Some(api) if apis.len() < APIS => {
            apis.insert(api.clone());
            api.into()
        }
        Some(_) => OTHER_API.into(),
    }
}

/// The hour that an event of that time is counted in.
pub(crate) fn hour_of(time: OffsetDateTime) -> OffsetDateTime {
    at(time.unix_timestamp().div_euclid(3_600) * 3_600)
}

/// The time so many seconds after 1970.
fn at(seconds: i64) -> OffsetDateTime {
    // No event's time lies beyond the years that both can say.
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The prepared statements of one writer's connection.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    daily: Statement,
    hourly: Statement,
    minutes: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let daily = client.prepare(ADD_DAILY).await?;
        let hourly = client.prepare(ADD_HOURLY).await?;
        let minutes = client.prepare(ADD_MINUTES).await?;
        Ok(Self {
            daily,
            hourly,
            minutes,
        })
    }
}

/// Adds the counts to the tables. Returns how many are counted under the type that stands for
/// those beyond the bound.
pub(super) async fn add(
    tx: &Transaction<'_>,
    statements: &Statements,
    types: &mut Types,
    mut counts: Counts<'_>,
) -> Result<u64, Error> {
    if counts.hourly.is_empty() {
        return Ok(0);
    }
    types.learn(tx, &counts.types()).await?;
    let others = counts.bound(types);
    let (mut tenants, mut names, mut dates, mut sums) = (vec![], vec![], vec![], vec![]);
    for ((tenant, event_type, date), count) in counts.daily() {
        tenants.push(tenant);
        names.push(event_type);
        dates.push(date);
        sums.push(count);
    }
    let daily: [&(dyn ToSql + Sync); 4] = [&tenants, &names, &dates, &sums];
    let mut hourly = Columns::default();
    for ((tenant, hour, event_type, source, category), count) in &counts.hourly {
        hourly.push(tenant, *hour, event_type, source, category, *count);
    }
    let mut minutes = Columns::default();
    for ((tenant, minute, event_type, source, api), count) in &counts.minutes {
        minutes.push(tenant, *minute, event_type, source, api, *count);
    }
    let (hourly, minutes) = (hourly.values(), minutes.values());
    // Sent together: each in its turn, and all for one round trip.
    tokio::try_join!(
        tx.execute(&statements.daily, &daily),
        tx.execute(&statements.hourly, &hourly),
        tx.execute(&statements.minutes, &minutes),
    )?;
    Ok(others.unsigned_abs())
}

/// The values of the two finer tables, column by column.
#[derive(Default)]
struct Columns<'a> {
    tenants: Vec<&'a str>,
    times: Vec<OffsetDateTime>,
    types: Vec<&'a str>,
    sources: Vec<&'a str>,
    last: Vec<&'a str>,
    sums: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn push(
        &mut self,
        tenant: &'a str,
        time: OffsetDateTime,
        event_type: &'a str,
        source: &'a str,
        last: &'a str,
        sum: i64,
    ) {
        self.tenants.push(tenant);
        self.times.push(time);
        self.types.push(event_type);
        self.sources.push(source);
        self.last.push(last);
        self.sums.push(sum);
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 6] {
        [
            &self.tenants,
            &self.times,
            &self.types,
            &self.sources,
            &self.last,
            &self.sums,
        ]
    }
}
