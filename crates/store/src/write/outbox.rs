//! The step `outbox`: messages to be sent once the transaction is committed.

use tokio_postgres::{Statement, Transaction};

use crate::error::Error;
use crate::outbox::Message;
use crate::pool::Database;

pub(crate) const INSERT: &str = "insert into outbox (tenant_id, subject, key, payload) \
    select * from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])";

/// Leaves the messages in the outbox.
pub(crate) async fn insert(
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

/// Leaves messages in the outbox, in a transaction of their own.
///
/// # Errors
/// The database does not answer. If the commit fails, they may be there all the same.
pub async fn leave(db: &Database, messages: &[Message]) -> Result<(), Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    announce(&tx, messages).await?;
    tx.commit().await?;
    Ok(())
}

/// Leaves messages in the outbox, once this transaction is committed.
pub(crate) async fn announce(tx: &Transaction<'_>, messages: &[Message]) -> Result<(), Error> {
    let statement = tx.prepare(INSERT).await?;
    insert(tx, &statement, messages).await
}
