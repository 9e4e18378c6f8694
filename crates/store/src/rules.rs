//! The version of all rules: what is to be done with which events.
//!
//! A storing transaction reads it, and fails with [`Error::Rules`] if the rules it was prepared for are
//! others; what is folded into projections it reads itself. A change of a rule waits for the storing
//! transactions that are open, and has new ones wait. So an event is stored either before the change is
//! committed, or under the changed rules.

use futures_util::future::try_join;
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::log::locks::{CLASS, RULES};

/// The kinds of rules, as they stand in the table `work`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum RuleKind {
    /// A processor: the event is pending until it is done.
    Processor = 1,
    /// A webhook.
    Webhook = 2,
}

const VERSION: &str = "select version from rules_version";

/// Longest wait for storing transactions; they wait behind a change of a rule.
const WAIT: &str = "set local lock_timeout = '5s'";

/// The version now.
///
/// # Errors
/// The database does not answer.
pub async fn version(client: &Client) -> Result<Uuid, Error> {
    Ok(client.query_one(VERSION, &[]).await?.try_get(0)?)
}

/// Makes another version, in the transaction that changes a rule.
///
/// # Errors
/// The database does not answer, or a storing transaction takes too long.
pub async fn change(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.batch_execute(&format!(
        "{WAIT}; select pg_advisory_xact_lock({CLASS}, {RULES}); \
         update rules_version set version = gen_random_uuid()"
    ))
    .await?;
    Ok(())
}

/// The prepared statements of one writer's connection.
#[derive(Debug)]
pub(crate) struct Statements {
    lock: Statement,
    version: Statement,
}

impl Statements {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, Error> {
        let lock = format!("select pg_advisory_xact_lock_shared({CLASS}, {RULES})");
        Ok(Self {
            lock: client.prepare(&lock).await?,
            version: client.prepare(VERSION).await?,
        })
    }
}

/// The version of the rules, which stays what it is for the rest of the transaction.
pub(crate) async fn hold(tx: &Transaction<'_>, statements: &Statements) -> Result<Uuid, Error> {
    // One round trip; the second statement sees what was committed while the first one waited.
    let lock = tx.query_one(&statements.lock, &[]);
    let (_, row) = try_join(lock, tx.query_one(&statements.version, &[])).await?;
    Ok(row.try_get(0)?)
}
