//! How events are named and built: what the processor saw (`event_shapes`, `event_quality`), and what can be
//! said of it.

use domain::TenantId;
use time::{Date, OffsetDateTime};
use tokio_postgres::Client;

use crate::error::Error;
use crate::pool::Database;

/// Types, members and sources of a report, at most, each.
pub const MAX_ROWS: i64 = 1_000;

/// A member of the data of a type, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "explained in the migration")]
pub struct ShapeKey {
    pub tenant: String,
    pub event_type: String,
    pub schema_version: String,
    pub path: String,
    pub json_type: &'static str,
}

/// Events of one type and source on a day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "explained in the migration")]
pub struct QualityKey {
    pub tenant: String,
    pub day: Date,
    pub event_type: String,
    pub event_source: &'static str,
}

/// What was seen of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "explained in the migration")]
pub struct Quality {
    pub events: i64,
    pub duplicates: i64,
    pub without_ids: i64,
    pub late: i64,
    pub early: i64,
    pub worst_seconds: i64,
}

/// A member of a type's data that is not as its others, or has not always been there.
#[derive(Debug)]
#[expect(missing_docs, reason = "as in the report")]
pub struct Member {
    pub event_type: String,
    pub schema_version: String,
    pub path: String,
    pub types: Vec<String>,
    pub first_seen: OffsetDateTime,
    pub last_seen: OffsetDateTime,
}

/// What is kept of a type and a source.
#[derive(Debug)]
pub struct TypeQuality {
    /// The type; none where it is about a source.
    pub event_type: Option<String>,
    /// The source.
    pub event_source: String,
    /// What was seen.
    pub quality: Quality,
}

/// What a report is made of.
#[derive(Debug)]
pub struct Material {
    /// Types with the number of their events.
    pub types: Vec<(String, i64)>,
    /// Members that have more than one type.
    pub mixed: Vec<Member>,
    /// Members that are new, or are not sent any more.
    pub changed: Vec<Member>,
    /// By type and source, those with events without ids.
    pub by_type: Vec<TypeQuality>,
    /// By source.
    pub by_source: Vec<TypeQuality>,
}

/// Members of a tenant's events, and types and sources of its day, that are kept at most: a stranger's unique
/// names would otherwise be rows without end.
const MAX_SHAPES: i64 = 20_000;
const MAX_TYPES: i64 = 2_000;

const ADD_SHAPES: &str = "insert into event_shapes as s (tenant, event_type, schema_version, path, json_type, events) \
    select u.* from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int8[]) \
        u(tenant, event_type, schema_version, path, json_type, events) \
    left join (select tenant, count(*) as kept from event_shapes where tenant = any($1) group by 1) k using (tenant) \
    where coalesce(k.kept, 0) < $7 or exists (select from event_shapes o where o.tenant = u.tenant \
        and o.event_type = u.event_type and o.schema_version = u.schema_version and o.path = u.path \
        and o.json_type = u.json_type) \
    on conflict (tenant, event_type, schema_version, path, json_type) \
    do update set events = s.events + excluded.events, last_seen = now()";
const ADD_QUALITY: &str = "insert into event_quality as q (tenant, day, event_type, event_source, events, duplicates, \
        without_ids, late, early, worst_seconds) \
    select u.* from unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::int8[], $6::int8[], $7::int8[], \
        $8::int8[], $9::int8[], $10::int8[]) \
        u(tenant, day, event_type, event_source, events, duplicates, without_ids, late, early, worst_seconds) \
    left join (select tenant, day, count(*) as kept from event_quality where tenant = any($1) and day = any($2) \
        group by 1, 2) k using (tenant, day) \
    where coalesce(k.kept, 0) < $11 or exists (select from event_quality o where o.tenant = u.tenant \
        and o.day = u.day and o.event_type = u.event_type and o.event_source = u.event_source) \
    on conflict (tenant, day, event_type, event_source) do update set events = q.events + excluded.events, \
        duplicates = q.duplicates + excluded.duplicates, without_ids = q.without_ids + excluded.without_ids, \
        late = q.late + excluded.late, early = q.early + excluded.early, \
        worst_seconds = greatest(q.worst_seconds, excluded.worst_seconds)";

/// Adds what was seen, sorted by its keys.
///
/// # Errors
/// The database does not answer; nothing is added then.
pub async fn add(
    db: &Database,
    shapes: &[(ShapeKey, i64)],
    quality: &[(QualityKey, Quality)],
) -> Result<(), Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    if !shapes.is_empty() {
        let text = |of: fn(&ShapeKey) -> &str| -> Vec<&str> {
            shapes.iter().map(|(key, _)| of(key)).collect()
        };
        let events: Vec<i64> = shapes.iter().map(|(_, events)| *events).collect();
        tx.execute(
            ADD_SHAPES,
            &[
                &text(|key| &key.tenant),
                &text(|key| &key.event_type),
                &text(|key| &key.schema_version),
                &text(|key| &key.path),
                &text(|key| key.json_type),
                &events,
                &MAX_SHAPES,
            ],
        )
        .await?;
    }
    if !quality.is_empty() {
        let text = |of: fn(&QualityKey) -> &str| -> Vec<&str> {
            quality.iter().map(|(key, _)| of(key)).collect()
        };
        let days: Vec<Date> = quality.iter().map(|(key, _)| key.day).collect();
        let number = |of: fn(&Quality) -> i64| -> Vec<i64> {
            quality.iter().map(|(_, seen)| of(seen)).collect()
        };
        tx.execute(
            ADD_QUALITY,
            &[
                &text(|key| &key.tenant),
                &days,
                &text(|key| &key.event_type),
                &text(|key| key.event_source),
                &number(|seen| seen.events),
                &number(|seen| seen.duplicates),
                &number(|seen| seen.without_ids),
                &number(|seen| seen.late),
                &number(|seen| seen.early),
                &number(|seen| seen.worst_seconds),
                &MAX_TYPES,
            ],
        )
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Removes what was seen last before that time.
///
/// # Errors
/// The database does not answer.
pub async fn forget(client: &Client, before: OffsetDateTime) -> Result<(), Error> {
    let shapes = "delete from event_shapes where last_seen < $1";
    client.execute(shapes, &[&before]).await?;
    let quality = "delete from event_quality where day < $1";
    client.execute(quality, &[&before.date()]).await?;
    Ok(())
}

const TYPES: &str = "select event_type, sum(count)::int8 from aggregated_events \
    where tenant_id = $1 and date >= $2 and event_type <> 'other' group by 1 order by 2 desc limit $3";
const MIXED: &str = "select event_type, schema_version, path, array_agg(json_type::text order by events desc), \
        min(first_seen), max(last_seen) \
    from event_shapes where tenant = $1 and last_seen >= $2 and json_type <> 'null' \
    group by 1, 2, 3 having count(*) > 1 order by 1, 2, 3 limit $3";
/// A type is known since its first member was seen; a day is what it takes to see all of it.
const CHANGED: &str = "with members as ( \
        select event_type, schema_version, path, array_agg(json_type::text) as types, min(first_seen) as first, \
            max(last_seen) as last from event_shapes where tenant = $1 group by 1, 2, 3 \
    ), known as ( \
        select event_type, min(first) as first, max(last) as last from members group by 1 \
    ) select m.event_type, m.schema_version, m.path, m.types, m.first, m.last \
    from members m join known k using (event_type) \
    where k.last >= $2 and (m.first >= $2 and m.first > k.first + interval '1 day' \
        or m.last < k.last - interval '1 day') \
    order by 1, 2, 3 limit $3";
const QUALITY: &str = "select event_type, event_source, sum(events)::int8, sum(duplicates)::int8, \
        sum(without_ids)::int8, sum(late)::int8, sum(early)::int8, max(worst_seconds) \
    from event_quality where tenant = $1 and day >= $2 \
    group by grouping sets ((event_type, event_source), (event_source)) \
    having event_type is null or sum(without_ids) > 0 order by 3 desc limit $3";

/// What there is since that time.
///
/// # Errors
/// The database does not answer.
pub async fn material(
    client: &Client,
    tenant: &TenantId,
    since: OffsetDateTime,
) -> Result<Material, Error> {
    let (tenant, day) = (tenant.as_str(), since.date());
    let types = client.query(TYPES, &[&tenant, &day, &MAX_ROWS]).await?;
    let pair = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let types = types
        .iter()
        .map(pair)
        .collect::<Result<_, tokio_postgres::Error>>()?;
    let mut members = [vec![], vec![]];
    for (sql, found) in [MIXED, CHANGED].into_iter().zip(&mut members) {
        for row in client.query(sql, &[&tenant, &since, &MAX_ROWS]).await? {
            found.push(Member {
                event_type: row.try_get(0)?,
                schema_version: row.try_get(1)?,
                path: row.try_get(2)?,
                types: row.try_get(3)?,
                first_seen: row.try_get(4)?,
                last_seen: row.try_get(5)?,
            });
        }
    }
    let [mixed, changed] = members;
    let (mut by_type, mut by_source) = (vec![], vec![]);
    for row in client
        .query(QUALITY, &[&tenant, &day, &(2 * MAX_ROWS)])
        .await?
    {
        let event_type: Option<String> = row.try_get(0)?;
        let list = if event_type.is_some() {
            &mut by_type
        } else {
            &mut by_source
        };
        list.push(TypeQuality {
            event_type,
            event_source: row.try_get(1)?,
            quality: Quality {
                events: row.try_get(2)?,
                duplicates: row.try_get(3)?,
                without_ids: row.try_get(4)?,
                late: row.try_get(5)?,
                early: row.try_get(6)?,
                worst_seconds: row.try_get(7)?,
            },
        });
    }
    Ok(Material {
        types,
        mixed,
        changed,
        by_type,
        by_source,
    })
}
