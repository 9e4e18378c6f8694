//! The step `dead_letters`: records that could not be decoded or stored, kept with their position, the
//! reason, and their bytes.

use std::collections::HashSet;

use domain::TenantId;
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use crate::error::Error;

pub(crate) const INSERT: &str = "insert into dead_letters \
    (tenant_id, topic, partition, \"offset\", key, headers, payload, reason, detail, event_id, \
    timestamp_ms, from_postgres) \
    select t, topic, p, o, k, h::jsonb, b, r, d, e, ms, pg from unnest($1::text[], $2::text[], \
    $3::int4[], $4::int8[], $5::bytea[], $6::text[], $7::bytea[], $8::text[], $9::text[], \
    $10::uuid[], $11::int8[], $12::bool[]) u(t, topic, p, o, k, h, b, r, d, e, ms, pg)";

const REOPEN: &str = "update dead_letters d set state = 'open', reason = u.reason, \
    detail = u.detail, payload = u.payload, event_id = u.event_id, changed_at = now() \
    from unnest($1::int8[], $2::text[], $3::text[], $4::bytea[], $5::uuid[]) \
    u(id, reason, detail, payload, event_id) where d.id = u.id returning d.id";

const REMOVE: &str = "delete from dead_letters where id = any($1)";

/// The prepared statements of one writer's connection.
#[derive(Debug)]
pub(super) struct Statements {
    insert: Statement,
    reopen: Statement,
    remove: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            insert: client.prepare(INSERT).await?,
            reopen: client.prepare(REOPEN).await?,
            remove: client.prepare(REMOVE).await?,
        })
    }
}

/// Longest `detail` kept, in bytes.
const MAX_DETAIL: usize = 4_000;

/// One record to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose it is, as far as the record said.
    pub tenant_id: TenantId,
    /// Full topic name.
    pub topic: String,
    /// Partition of the topic.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// Name and value of each of the record's headers, in their order; values that are no text
    /// stand in base64.
    pub headers: Vec<(String, String)>,
    /// The record's bytes, untouched.
    pub payload: Option<Vec<u8>>,
    /// A stable, bounded word: `invalid_json`, `wrong_type`, `database`, …
    pub reason: String,
    /// A sentence for a person, with the path of the field.
    pub detail: String,
    /// The event in it, where it could be read.
    pub event_id: Option<Uuid>,
    /// When the record was written, in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// Whether its place is one of the Postgres log.
    pub from_postgres: bool,
    /// The dead letter that the record was before: it is opened again.
    pub was: Option<i64>,
}

/// Removes the dead letters whose records are stored now, and keeps these.
pub(super) async fn keep(
    tx: &Transaction<'_>,
    statements: &Statements,
    stored: &[i64],
    letters: &[&DeadLetter],
) -> Result<(), Error> {
    if !stored.is_empty() {
        tx.execute(&statements.remove, &[&stored]).await?;
    }
    let (again, mut new): (Vec<&DeadLetter>, Vec<_>) =
        letters.iter().partition(|letter| letter.was.is_some());
    if !again.is_empty() {
        let ids: Vec<Option<i64>> = again.iter().map(|l| l.was).collect();
        let reasons: Vec<&str> = again.iter().map(|l| l.reason.as_str()).collect();
        let details: Vec<String> = again.iter().map(|l| storable(&l.detail)).collect();
        let payloads: Vec<Option<&[u8]>> = again.iter().map(|l| l.payload.as_deref()).collect();
        let events: Vec<Option<Uuid>> = again.iter().map(|l| l.event_id).collect();
        let rows = tx
            .query(
                &statements.reopen,
                &[&ids, &reasons, &details, &payloads, &events],
            )
            .await?;
        // One that is gone meanwhile is a new one.
        let opened: HashSet<Option<i64>> = rows.iter().map(|row| row.get(0)).collect();
        new.extend(again.into_iter().filter(|l| !opened.contains(&l.was)));
    }
    insert(tx, &statements.insert, &new).await
}

pub(crate) async fn insert(
    tx: &Transaction<'_>,
    statement: &Statement,
    letters: &[&DeadLetter],
) -> Result<(), Error> {
    if letters.is_empty() {
        return Ok(());
    }
    let column = |pick: fn(&DeadLetter) -> &str| -> Vec<&str> {
        letters.iter().map(|letter| pick(letter)).collect()
    };
    let tenants = column(|l| l.tenant_id.as_str());
    let topics = column(|l| &l.topic);
    let partitions: Vec<i32> = letters.iter().map(|l| l.partition).collect();
    let offsets: Vec<i64> = letters.iter().map(|l| l.offset).collect();
    let keys: Vec<Option<&[u8]>> = letters.iter().map(|l| l.key.as_deref()).collect();
    // Writing to memory cannot fail.
    let headers = |l: &&DeadLetter| serde_json::to_string(&l.headers).unwrap_or_default();
    let headers: Vec<String> = letters.iter().map(headers).collect();
    let payloads: Vec<Option<&[u8]>> = letters.iter().map(|l| l.payload.as_deref()).collect();
    let events: Vec<Option<Uuid>> = letters.iter().map(|l| l.event_id).collect();
    let reasons = column(|l| &l.reason);
    let details: Vec<String> = letters.iter().map(|l| storable(&l.detail)).collect();
    let times: Vec<Option<i64>> = letters.iter().map(|l| l.timestamp_ms).collect();
    let from_postgres: Vec<bool> = letters.iter().map(|l| l.from_postgres).collect();
    tx.execute(
        statement,
        &[
            &tenants,
            &topics,
            &partitions,
            &offsets,
            &keys,
            &headers,
            &payloads,
            &reasons,
            &details,
            &events,
            &times,
            &from_postgres,
        ],
    )
    .await?;
    Ok(())
}

/// The text without what PostgreSQL's cannot hold, and cut; the bytes themselves are in `payload`.
fn storable(text: &str) -> String {
    let end = (0..=text.len().min(MAX_DETAIL))
        .rev()
        .find(|i| text.is_char_boundary(*i));
    let cut = text.get(..end.unwrap_or(0)).unwrap_or_default();
    cut.replace('\0', "\u{fffd}")
}
