//! The write: everything that follows from a batch of records, in one transaction.
//!
//! A flat list of steps, one module each, in the order in which their locks are taken: [`new`] (which
//! ids are not stored yet), [`claim`] (ids into `event_ids`), [`copy`] (rows into `events`),
//! [`outbox`], [`dead_letters`], [`counts`], [`positions`]. Versions of streams belong between `new`
//! and `claim`; projections and the work of handlers between `copy` and `outbox`. The counts are few
//! and hot, so they come as late as possible: writers wait for each other only there.

mod binary;
mod claim;
mod copy;
mod counts;
mod dead_letters;
mod frozen;
mod new;
mod outbox;
mod pending;
pub mod positions;

#[doc(hidden)]
pub use binary::{HEADER, TRAILER};
pub use claim::stored;
#[doc(hidden)]
pub use copy::COPY;
pub use copy::{FrozenRows, Rows};
pub use dead_letters::DeadLetter;
pub use frozen::end_frozen;
pub use pending::Pending;
pub use positions::Advance;

use domain::Event;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::error::Error;
use crate::outbox::Message;
use crate::pool::Database;

/// What one transaction stores.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Rows in COPY format.
    pub rows: &'a FrozenRows,
    /// The events to store, by ascending row.
    pub events: &'a [Pending<'a>],
    /// The records to keep as dead letters.
    pub dead_letters: &'a [&'a DeadLetter],
    /// The step of every partition touched.
    pub advances: &'a [Advance],
    /// The consumer that must still own these partitions; none in a log that names no owner.
    pub owner: Option<Uuid>,
    /// Makes the message that each event stored now leaves in the outbox.
    pub message: Option<fn(&Event) -> Message>,
}

/// One writer: a connection of its own with its statements prepared.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    new: Statement,
    claim: Statement,
    copy: Statement,
    outbox: Statement,
    dead_letters: Statement,
    counts: counts::Statements,
    positions: positions::Statements,
}

impl Writer {
    /// Connects and prepares.
    ///
    /// # Errors
    /// The server cannot be reached, or the schema is not there yet.
    pub async fn connect(db: &Database) -> Result<Self, Error> {
        let client = db.connect().await?;
        // A writer that was frozen in the middle of a transaction must not hold the count rows for
        // ever, nor wait for ever for another that is. And all its look-ups are few keys in a large
        // table: a plan that reads the whole table would make every batch slower than the last.
        client
            .batch_execute(
                "set idle_in_transaction_session_timeout = '30s'; set lock_timeout = '20s'; \
                 set statement_timeout = '120s'; set enable_seqscan = off; \
                 set enable_hashjoin = off; set enable_mergejoin = off",
            )
            .await?;
        Ok(Self {
            new: client.prepare(new::KNOWN).await?,
            claim: client.prepare(claim::CLAIM).await?,
            copy: client.prepare(COPY).await?,
            outbox: client.prepare(outbox::INSERT).await?,
            dead_letters: client.prepare(dead_letters::INSERT).await?,
            counts: counts::Statements::prepare(&client).await?,
            positions: positions::Statements::prepare(&client).await?,
            client,
        })
    }

    /// False once the connection is gone and a new writer is needed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// The connection, for the reads that go with writing.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Stores a batch, whole or not at all, and returns the events stored now; the others were
    /// stored before.
    ///
    /// # Errors
    /// See [`Error::kind`] for what to do. After any error nothing of the batch is stored, except
    /// that a connection lost during the commit leaves it unknown: the positions tell.
    pub async fn write<'a>(&mut self, batch: &Batch<'a>) -> Result<Vec<Pending<'a>>, Error> {
        let tx = self.client.transaction().await?;
        let new = new::select(&tx, &self.new, batch.events).await?;
        claim::claim(&tx, &self.claim, &new).await?;
        copy::copy(&tx, &self.copy, batch.rows, &new).await?;
        if let Some(message) = batch.message {
            let messages: Vec<_> = new.iter().map(|pending| message(pending.event)).collect();
            outbox::insert(&tx, &self.outbox, &messages).await?;
        }
        dead_letters::insert(&tx, &self.dead_letters, batch.dead_letters).await?;
        counts::add(&tx, &self.counts, &new).await?;
        positions::advance(&tx, &self.positions, batch.advances, batch.owner).await?;
        tx.commit().await?;
        Ok(new)
    }
}
