//! The step `streams`: numbers for the events of explicit aggregates, in the order of the log, without a
//! gap (S4-03). A batch without such events costs nothing; a stream costs one row, whose lock is held
//! until the commit.

use std::collections::{BTreeMap, HashMap};

use domain::stream;
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use super::pending::Pending;
use crate::error::Error;

/// Takes as many numbers as there are events, before it is known whether all of them are used: one
/// statement locks, creates and counts, in sorted order.
const TAKE: &str = "insert into event_streams as s (tenant_id, stream_id, version) \
    select * from unnest($1::text[], $2::text[], $3::int8[]) \
    on conflict (tenant_id, stream_id) \
    do update set version = s.version + excluded.version, updated_at = now() \
    returning tenant_id, stream_id, version";

const SET: &str = "update event_streams s set version = u.version \
    from unnest($1::text[], $2::text[], $3::int8[]) u(tenant_id, stream_id, version) \
    where s.tenant_id = u.tenant_id and s.stream_id = u.stream_id";

const STREAM_OF: &str = "select event_id, tenant_id, stream_id from event_ids \
    where event_id = any($1::uuid[]) and stream_id is not null";

/// The tenant and the stream.
type Key<'a> = (&'a str, String);

#[derive(Debug)]
pub(super) struct Statements {
    take: Statement,
    set: Statement,
    stream_of: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            take: client.prepare(TAKE).await?,
            set: client.prepare(SET).await?,
            stream_of: client.prepare(STREAM_OF).await?,
        })
    }
}

/// Numbers the events of explicit aggregates. Takes those that expect another version out of `new`, and
/// returns them, each with a sentence with both versions.
pub(super) async fn number<'a>(
    tx: &Transaction<'_>,
    statements: &Statements,
    new: &mut Vec<Pending<'a>>,
) -> Result<Vec<(Pending<'a>, String)>, Error> {
    let mut streams: BTreeMap<Key<'a>, Vec<usize>> = BTreeMap::new();
    for (index, Pending { event, .. }) in new.iter().enumerate() {
        if let Some(id) = stream::explicit_id(event) {
            let key = (event.tenant_id.as_str(), id);
            streams.entry(key).or_default().push(index);
        }
    }
    if streams.is_empty() {
        return Ok(vec![]);
    }
    let leaders = leaders(tx, &statements.stream_of, new, &streams).await?;
    let counts = streams.iter().map(|(key, events)| (key, count(events)));
    let last = send(tx, &statements.take, counts).await?;
    let mut refused: BTreeMap<usize, String> = BTreeMap::new();
    let mut corrected = vec![];
    for (key, mut events) in streams {
        let taken = last.get(&(key.0.to_owned(), key.1.clone()));
        let Some(end) = taken.copied() else {
            return Err(Error::Conflict(format!("no row of the stream {}", key.1)));
        };
        let mut version = end - count(&events);
        let mut accepted: HashMap<Uuid, bool> = leaders
            .iter()
            .filter(|(of, ..)| *of == (key.0.to_owned(), key.1.clone()))
            .map(|(_, leader)| (*leader, true))
            .collect();
        // What goes on with an append comes right after it.
        let places: HashMap<Uuid, usize> = events
            .iter()
            .filter_map(|at| Some((new.get(*at)?.event.event_id, *at)))
            .collect();
        events.sort_by_key(|at| {
            let follows = new.get(*at).and_then(|pending| pending.follows);
            let leader = follows.and_then(|id| places.get(&id)).copied();
            (leader.unwrap_or(*at), *at)
        });
        for at in events {
            let Some(pending) = new.get_mut(at) else {
                continue;
            };
            let expected = pending.event.expected_version;
            let fits = match pending.follows {
                Some(leader) => accepted.get(&leader) == Some(&true),
                None => expected.is_none_or(|expected| expected == version),
            };
            accepted.insert(pending.event.event_id, fits);
            if fits {
                version += 1;
                pending.version = Some(version);
            } else {
                let expected = expected.map_or("another".to_owned(), |number| number.to_string());
                let detail = format!(
                    "the stream {} is at version {version}, the event expects {expected}",
                    key.1
                );
                refused.insert(at, detail);
            }
        }
        if version < end {
            corrected.push((key, version));
        }
    }
    if !corrected.is_empty() {
        let versions = corrected.iter().map(|(key, version)| (key, *version));
        send(tx, &statements.set, versions).await?;
    }
    let mut conflicts = Vec::with_capacity(refused.len());
    let mut index = 0;
    new.retain(|pending| {
        let detail = refused.remove(&index);
        index += 1;
        let keep = detail.is_none();
        conflicts.extend(detail.map(|detail| (*pending, detail)));
        keep
    });
    Ok(conflicts)
}

/// Runs one of the statements over streams and numbers; returns the versions that it returns.
async fn send<'k, 'a: 'k>(
    tx: &Transaction<'_>,
    statement: &Statement,
    rows: impl Iterator<Item = (&'k Key<'a>, i64)>,
) -> Result<HashMap<(String, String), i64>, Error> {
    let (mut tenants, mut ids, mut numbers) = (vec![], vec![], vec![]);
    for ((tenant, id), number) in rows {
        tenants.push(*tenant);
        ids.push(id.as_str());
        numbers.push(number);
    }
    let rows = tx.query(statement, &[&tenants, &ids, &numbers]).await?;
    let row = |row: &tokio_postgres::Row| ((row.get(0), row.get(1)), row.get(2));
    Ok(rows.iter().map(row).collect())
}

/// Of the events that others go on with and which are not in this batch, those that are stored, with
/// their streams. Rare: an append is a batch of one client, and those of one stream are neighbours.
async fn leaders(
    tx: &Transaction<'_>,
    statement: &Statement,
    new: &[Pending<'_>],
    streams: &BTreeMap<Key<'_>, Vec<usize>>,
) -> Result<Vec<((String, String), Uuid)>, Error> {
    let here = || streams.values().flatten().filter_map(|at| new.get(*at));
    let followed: Vec<Uuid> = here().filter_map(|pending| pending.follows).collect();
    if followed.is_empty() {
        return Ok(vec![]);
    }
    let rows = tx.query(statement, &[&followed]).await?;
    let row = |row: &tokio_postgres::Row| ((row.get(1), row.get(2)), row.get(0));
    Ok(rows.iter().map(row).collect())
}

fn count(events: &[usize]) -> i64 {
    i64::try_from(events.len()).unwrap_or(i64::MAX)
}
