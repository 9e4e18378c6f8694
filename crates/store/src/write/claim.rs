//! The step `claim`: the ids of the new events, each with its stream, into `event_ids`.

use std::collections::HashMap;

use bytes::{BufMut, BytesMut};
use domain::stream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use super::binary::{HEADER, TRAILER, micros, put, put_null, send};
use super::partitions::Numbers;
use super::pending::Pending;
use crate::error::Error;

/// The ids with the stream and the number there.
///
/// A look at the ids first and a plain COPY of the new ones costs 1.8 µs a row; `insert … on
/// conflict do nothing returning` costs 3.1 (PostgreSQL 15, 5,000 ids a statement).
pub(super) const CLAIM: &str = "copy event_ids (event_id, tenant_id, timestamp, content_hash, \
    stream_id, stream_version, log_partition, log_offset, by_gateway) from stdin (format binary)";

/// Claims the ids of these events for this transaction; false if one of them is stored, and then the
/// transaction is of no use any more. Where another transaction has just claimed one, waits for its end.
///
/// # Errors
/// The database does not answer.
pub(super) async fn claim(
    tx: &Transaction<'_>,
    statement: &Statement,
    partitions: &Numbers,
    new: &[Pending<'_>],
) -> Result<bool, Error> {
    if new.is_empty() {
        return Ok(true);
    }
    // In sorted order, so that two writers holding the same ids wait for each other instead of
    // deadlocking.
    let mut sorted: Vec<_> = new.iter().zip(partitions.of_each(new)).collect();
    sorted.sort_unstable_by_key(|(one, _)| (one.event.event_id, &one.event.tenant_id));
    let mut out = BytesMut::with_capacity(sorted.len() * 92 + 32);
    out.put_slice(HEADER);
    for (pending, partition) in sorted {
        let event = pending.event;
        out.put_i16(9);
        put(&mut out, event.event_id.as_bytes());
        put(&mut out, event.tenant_id.as_str().as_bytes());
        put(&mut out, &micros(event.timestamp).to_be_bytes());
        put(&mut out, &pending.hash.to_be_bytes());
        // Explicit aggregates only: the streams of users are numbered when they are read.
        match stream::explicit_id(event) {
            Some(id) => put(&mut out, id.as_bytes()),
            None => put_null(&mut out),
        }
        match pending.version {
            Some(version) => put(&mut out, &version.to_be_bytes()),
            None => put_null(&mut out),
        }
        match partition {
            Some(number) => put(&mut out, &number.to_be_bytes()),
            None => put_null(&mut out),
        }
        put(&mut out, &pending.place.offset.to_be_bytes());
        put(&mut out, &[u8::from(pending.by_gateway)]);
    }
    out.put_slice(TRAILER);
    match send(tx, statement, [out.freeze()]).await {
        Ok(()) => Ok(true),
        Err(Error::Database(error)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            Ok(false)
        }
        Err(other) => Err(other),
    }
}

/// Of these ids, the ones that are stored, each with [`domain::Event::content_hash`] if that is known.
///
/// # Errors
/// The database does not answer.
pub async fn stored(client: &Client, ids: &[Uuid]) -> Result<HashMap<Uuid, Option<i64>>, Error> {
    let sql = "select event_id, content_hash from event_ids where event_id = any($1)";
    let rows = client.query(sql, &[&ids]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
