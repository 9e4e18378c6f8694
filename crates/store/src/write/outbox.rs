//! The step `outbox`: messages to be sent once the transaction is committed.

use tokio_postgres::{Statement, Transaction};

use crate::error::Error;
use crate::outbox::Message;

pub(super) const INSERT: &str = "insert into outbox (tenant_id, subject, key, payload) \
    select * from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])";

/// Leaves the messages in the outbox.
pub(super) async fn insert(
    tx: &Transaction<'_>,
    statement: &Statement,
    messages: &[Message],
) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let tenants: Vec<&str> = messages.iter().map(|m| m.tenant_id.as_str()).collect();
    let subjects: Vec<&str> = messages.iter().map(|m| m.subject.as_str()).collect();
    let keys: Vec<&[u8]> = messages.iter().map(|m| m.key.as_slice()).collect();
    let payloads: Vec<&[u8]> = messages.iter().map(|m| m.payload.as_slice()).collect();
    tx.execute(statement, &[&tenants, &subjects, &keys, &payloads])
        .await?;
    Ok(())
}
