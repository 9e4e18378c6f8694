//! The step `outbox`: messages to be sent once the transaction is committed.

use tokio_postgres::{Statement, Transaction};

use crate::error::Error;
use crate::outbox::{Message, Sinks};
use crate::pool::Database;

pub(crate) const INSERT: &str = "insert into outbox (sink, tenant_id, subject, key, payload) \
    select $5::int2, * from unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[])";

/// Leaves the messages in the outbox, for each of these sinks.
pub(crate) async fn insert(
    tx: &Transaction<'_>,
    statement: &Statement,
    messages: &[Message],
    to: Sinks,
) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let tenants: Vec<&str> = messages.iter().map(|m| m.tenant_id.as_str()).collect();
    let subjects: Vec<&str> = messages.iter().map(|m| m.subject.as_str()).collect();
    let keys: Vec<&[u8]> = messages.iter().map(|m| m.key.as_slice()).collect();
    let payloads: Vec<&[u8]> = messages.iter().map(|m| m.payload.as_slice()).collect();
    for sink in to.iter() {
        let sink = sink as i16;
        tx.execute(statement, &[&tenants, &subjects, &keys, &payloads, &sink])
            .await?;
    }
    Ok(())
}

/// Leaves messages in the outbox for Kafka, in a transaction of their own.
///
/// # Errors
/// The database does not answer. If the commit fails, they may be there all the same.
pub async fn leave(db: &Database, messages: &[Message]) -> Result<(), Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let kafka = Sinks {
        kafka: true,
        nats: false,
    };
    announce(&tx, messages, kafka).await?;
    tx.commit().await?;
    Ok(())
}

/// Leaves messages in the outbox for these sinks, once this transaction is committed.
pub(crate) async fn announce(
    tx: &Transaction<'_>,
    messages: &[Message],
    to: Sinks,
) -> Result<(), Error> {
    if messages.is_empty() || to.is_empty() {
        return Ok(());
    }
    let statement = tx.prepare(INSERT).await?;
    insert(tx, &statement, messages, to).await
}
