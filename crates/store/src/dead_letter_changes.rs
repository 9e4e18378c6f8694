//! What an operator does with dead letters: has them stored again, or sets them aside.

use domain::TenantId;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::dead_letter_reads::{Filter, StoredDeadLetter, WHOLE};
use crate::error::Error;
use crate::sql::{Fetched, Sql};

/// Reasons of dead letters that hold no event: nothing could be stored again.
pub const WITHOUT_EVENT: [&str; 2] = ["log_gap", "announcement_failed"];

/// Marks the dead letters as under way and appends their records to the log, all in one statement:
/// neither happens without the other. The log's lock comes first.
const REDRIVE: &str = "with u as materialized ( \
        select * from unnest($2::int8[], $3::int2[], $4::text[], $5::bytea[], $6::bytea[], \
            $7::bytea[], $8::bool[]) u(id, partition, topic, key, headers, payload, changed) \
    ), taken as ( \
        update dead_letters d set state = 'redriven', attempts = d.attempts + 1, changed_at = now(), \
            payload = u.payload, history = d.history || jsonb_strip_nulls(jsonb_build_object( \
                'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                'action', 'redriven', 'reason', d.reason, 'detail', d.detail, \
                'payload_before', case when u.changed then translate(encode(d.payload, 'base64'), E'\\n', '') end)) \
        from u where d.id = u.id and d.tenant_id = $1 and d.state <> 'redriven' returning d.id \
    ) select count(*), log_append(array_agg(partition), array_agg(topic), array_agg(key), \
        array_agg(headers), array_agg(payload)) \
    from (select u.* from u join taken using (id) order by u.id) x having count(*) > 0";

/// Has processors run again that gave up on these: their events are stored, so nothing goes through the
/// log. Not those whose event was removed or whose processor is gone.
const RUN_AGAIN: &str = "with found as ( \
        select d.id, i.event_id, i.tenant_id, i.timestamp, p.processor_id from dead_letters d \
        join event_ids i on i.event_id = d.event_id and i.tenant_id = d.tenant_id \
        join event_processors p on p.processor_name = convert_from(d.key, 'UTF8') \
            and coalesce(p.tenant_id, d.tenant_id) = d.tenant_id and p.deleted_at is null \
        where d.tenant_id = $1 and d.id = any($2) and d.reason = 'handler_failed' \
            and d.state <> 'redriven' order by d.id for update of d \
    ), taken as ( \
        update dead_letters d set state = 'redriven', attempts = d.attempts + 1, changed_at = now(), \
            history = d.history || jsonb_build_object( \
                'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
                'action', 'redriven', 'reason', d.reason, 'detail', d.detail) \
        from found where d.id = found.id returning d.id \
    ) insert into work (event_id, tenant_id, rule_id, kind, event_timestamp) \
        select event_id, tenant_id, processor_id, 1, timestamp from found join taken using (id) \
        on conflict do nothing";

const DISCARD: &str = "update dead_letters set state = 'discarded', note = $3, changed_at = now(), \
    history = history || jsonb_build_object( \
        'at', to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
        'action', 'discarded', 'note', $3::text) \
    where tenant_id = $1 and id = any($2) and state = 'open'";

/// Which dead letters are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// These, whatever else is said; empty for all that the filter lets through.
    pub ids: Vec<i64>,
    /// The others.
    pub filter: Filter,
    /// Only those after the one of this number.
    pub after: i64,
}

impl Selection {
    fn conditions(&self, sql: &mut Sql) {
        self.filter.conditions(sql);
        sql.push(" and id > ").bind(self.after, Type::INT8);
        if !self.ids.is_empty() {
            sql.push(" and id = any(")
                .bind(self.ids.clone(), Type::INT8_ARRAY)
                .push(")");
        }
    }
}

/// A record to be stored again.
#[derive(Debug)]
pub struct Again {
    /// The number of its dead letter.
    pub id: i64,
    /// The partition of the log it goes to.
    pub partition: i16,
    /// Full topic name.
    pub topic: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// As [`pack_headers`](crate::log::pack_headers) makes them.
    pub headers: Vec<u8>,
    /// The record's bytes.
    pub payload: Vec<u8>,
    /// Whether they are others than before.
    pub changed: bool,
}

/// How many are meant, and how many of them hold no event.
///
/// # Errors
/// The database does not answer.
pub async fn count(client: &Client, selection: &Selection) -> Result<(u64, u64), Error> {
    let mut sql =
        Sql::new("select count(*), count(*) filter (where payload is null or reason = any(");
    sql.bind(WITHOUT_EVENT.to_vec(), Type::TEXT_ARRAY)
        .push(")) from dead_letters where tenant_id = ");
    selection.conditions(&mut sql);
    let row = sql.row(client).await?;
    let number = |at| Ok::<u64, Error>(row.try_get::<_, i64>(at)?.try_into().unwrap_or(0));
    Ok((number(0)?, number(1)?))
}

/// The first of those that are meant, whole, the oldest first; at most about `max_bytes` of them, but
/// one in any case.
///
/// # Errors
/// The database does not answer.
pub async fn next(
    client: &Client,
    selection: &Selection,
    limit: u32,
    max_bytes: usize,
) -> Result<Fetched<StoredDeadLetter>, Error> {
    let mut sql = Sql::new(WHOLE);
    selection.conditions(&mut sql);
    sql.push(" order by id limit ")
        .bind(i64::from(limit), Type::INT8);
    sql.fetch(
        client,
        max_bytes,
        StoredDeadLetter::from_row,
        StoredDeadLetter::weight,
    )
    .await
}

/// The numbers of the first of those that are meant and open, the oldest first.
///
/// # Errors
/// The database does not answer.
pub async fn ids(client: &Client, selection: &Selection, limit: u32) -> Result<Vec<i64>, Error> {
    let mut sql = Sql::new("select id from dead_letters where state = 'open' and tenant_id = ");
    selection.conditions(&mut sql);
    sql.push(" order by id limit ")
        .bind(i64::from(limit), Type::INT8);
    let rows = sql.rows(client).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Has them stored again; returns how many there were that are not under way already.
///
/// # Errors
/// The database does not answer; then none is under way, or all are.
pub async fn redrive(client: &Client, tenant: &TenantId, again: &[Again]) -> Result<u64, Error> {
    let ids: Vec<i64> = again.iter().map(|one| one.id).collect();
    let partitions: Vec<i16> = again.iter().map(|one| one.partition).collect();
    let topics: Vec<&str> = again.iter().map(|one| one.topic.as_str()).collect();
    let keys: Vec<Option<&[u8]>> = again.iter().map(|one| one.key.as_deref()).collect();
    let headers: Vec<&[u8]> = again.iter().map(|one| one.headers.as_slice()).collect();
    let payloads: Vec<&[u8]> = again.iter().map(|one| one.payload.as_slice()).collect();
    let changed: Vec<bool> = again.iter().map(|one| one.changed).collect();
    let row = client
        .query_opt(
            REDRIVE,
            &[
                &tenant.as_str(),
                &ids,
                &partitions,
                &topics,
                &keys,
                &headers,
                &payloads,
                &changed,
            ],
        )
        .await?;
    let count = row.map_or(Ok(0), |row| row.try_get::<_, i64>(0))?;
    Ok(count.try_into().unwrap_or(0))
}

/// Has processors run again that gave up on the events of these; returns how many do.
///
/// # Errors
/// The database does not answer; then none does.
pub async fn run_again(client: &Client, tenant: &TenantId, ids: &[i64]) -> Result<u64, Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    Ok(client.execute(RUN_AGAIN, &[&tenant.as_str(), &ids]).await?)
}

/// Sets those of these numbers aside that are open; returns how many there were.
///
/// # Errors
/// The database does not answer.
pub async fn discard(
    client: &Client,
    tenant: &TenantId,
    ids: &[i64],
    note: &str,
) -> Result<u64, Error> {
    Ok(client
        .execute(DISCARD, &[&tenant.as_str(), &ids, &note])
        .await?)
}
