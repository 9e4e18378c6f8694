//! The step `dead_letters`: records that could not be decoded or stored, kept with their position, the
//! reason, and their bytes.

use domain::TenantId;
use tokio_postgres::{Statement, Transaction};
use uuid::Uuid;

use crate::error::Error;

pub(super) const INSERT: &str = "insert into dead_letters \
    (tenant_id, topic, partition, \"offset\", key, headers, payload, reason, detail, event_id) \
    select t, topic, p, o, k, h::jsonb, b, r, d, e from unnest($1::text[], $2::text[], $3::int4[], \
    $4::int8[], $5::bytea[], $6::text[], $7::bytea[], $8::text[], $9::text[], \
    $10::uuid[]) u(t, topic, p, o, k, h, b, r, d, e)";

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
    /// The record's headers as a JSON object; values that are no text stand in base64.
    pub headers: String,
    /// The record's bytes, untouched.
    pub payload: Option<Vec<u8>>,
    /// A stable, bounded word: `invalid_json`, `wrong_type`, `database`, …
    pub reason: String,
    /// A sentence for a person, with the path of the field.
    pub detail: String,
    /// The event in it, where it could be read.
    pub event_id: Option<Uuid>,
}

/// Keeps the records.
pub(super) async fn insert(
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
    let headers = column(|l| &l.headers);
    let payloads: Vec<Option<&[u8]>> = letters.iter().map(|l| l.payload.as_deref()).collect();
    let events: Vec<Option<Uuid>> = letters.iter().map(|l| l.event_id).collect();
    let reasons = column(|l| &l.reason);
    // PostgreSQL text holds no NUL; the bytes themselves are in `payload`.
    let details: Vec<String> = letters
        .iter()
        .map(|l| cut(&l.detail).replace('\0', "\u{fffd}"))
        .collect();
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
        ],
    )
    .await?;
    Ok(())
}

fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_DETAIL))
        .rev()
        .find(|i| text.is_char_boundary(*i));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}
