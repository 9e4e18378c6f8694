//! The write: everything that follows from a batch of records, in one transaction.
//!
//! Order within it: rows of the Postgres log (whoever is too late learns it at once), the note that
//! they are to be told, ids, rows, dead letters, counts, offsets. The counts are few and hot, so they
//! are touched last, right before the fence and the commit: writers wait for each other only then.

use std::collections::HashSet;
use std::time::Duration;

use domain::Event;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::counts::Counts;
use crate::dead_letters::DeadLetter;
use crate::error::Error;
use crate::events::FrozenRows;
use crate::log::LogPosition;
use crate::offsets::Advance;
use crate::pool::Database;
use crate::untold::{Note, Noted};
use crate::{announcements, counts, dead_letters, events, log, offsets, untold};

/// What one transaction stores.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Rows in COPY format.
    pub rows: &'a FrozenRows,
    /// The events to store, each with the index of its row, ascending.
    pub events: &'a [(usize, &'a Event)],
    /// The records to keep as dead letters.
    pub dead_letters: &'a [&'a DeadLetter],
    /// The step of every partition of Kafka touched.
    pub advances: &'a [Advance],
    /// The rows of the Postgres log that these records were, each once.
    pub remove: &'a [LogPosition],
    /// Note the events stored now as due to be announced.
    pub note_announcements: bool,
    /// Note that listeners are to be told of what these partitions had.
    pub untold: Option<Note<'a>>,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Positions in [`Batch::events`] of the events stored now, ascending; the others were stored
    /// before.
    pub stored: Vec<usize>,
    /// What came of [`Batch::untold`].
    pub noted: Noted,
}

/// One writer: a connection of its own with its statements prepared.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    events: events::Statements,
    counts: counts::Statements,
    advance: Statement,
    dead_letters: Statement,
    remove: Statement,
    announcements: Statement,
    untold: Statement,
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
            events: events::Statements::prepare(&client).await?,
            counts: counts::Statements::prepare(&client).await?,
            advance: offsets::prepare(&client).await?,
            dead_letters: dead_letters::prepare(&client).await?,
            remove: log::prepare(&client).await?,
            announcements: announcements::prepare(&client).await?,
            untold: untold::prepare(&client).await?,
            client,
        })
    }

    /// Says that notes of this owner may still be set as long as this connection exists.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn notes_for(&self, owner: Uuid) -> Result<(), Error> {
        untold::lock_writer(&self.client, owner).await
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

    /// Stores a batch, whole or not at all.
    ///
    /// # Errors
    /// See [`Error::kind`] for what to do. After any error nothing of the batch is stored, except
    /// that a connection lost during the commit leaves it unknown: the fence tells at the next try.
    pub async fn write(&mut self, batch: &Batch<'_>) -> Result<Written, Error> {
        let tx = self.client.transaction().await?;
        log::remove(&tx, &self.remove, batch.remove).await?;
        let noted = match batch.untold {
            Some(note) => untold::note(&tx, &self.untold, note).await?,
            None => Noted::default(),
        };

        let firsts = first_of_each_id(batch.events);
        let candidates: Vec<&Event> = firsts
            .iter()
            .filter_map(|&at| batch.events.get(at))
            .map(|(_, event)| *event)
            .collect();
        let known = events::known(&tx, &self.events, &candidates).await?;
        let mut stored = Vec::with_capacity(firsts.len());
        let mut indices = Vec::with_capacity(firsts.len());
        let mut new = Vec::with_capacity(firsts.len());
        let mut counts = Counts::default();
        for at in firsts {
            let Some((row, event)) = batch.events.get(at) else {
                continue;
            };
            let is_known = !known.is_empty()
                && known.contains(&(event.event_id, event.tenant_id.as_str().to_owned()));
            if !is_known {
                stored.push(at);
                indices.push(*row);
                new.push(*event);
                counts.add(event);
            }
        }
        if batch.note_announcements {
            announcements::insert(&tx, &self.announcements, &new).await?;
        }
        events::claim(&tx, &self.events, new).await?;
        events::copy(&tx, &self.events, batch.rows, &indices).await?;
        dead_letters::insert(&tx, &self.dead_letters, batch.dead_letters).await?;
        counts::add(&tx, &self.counts, &counts).await?;
        offsets::advance(&tx, &self.advance, batch.advances).await?;
        tx.commit().await?;
        Ok(Written { stored, noted })
    }
}

/// Ends sessions of writers that stopped in the middle of a COPY, longer than `after` ago, and tells
/// how many. A process frozen there keeps what its transaction has locked: the server waits for its
/// data, and none of its timeouts apply. Ask when a lock could not be had.
///
/// # Errors
/// The database does not answer.
pub async fn end_frozen(client: &Client, after: Duration) -> Result<usize, Error> {
    let rows = client
        .query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and usename = current_user \
             and pid <> pg_backend_pid() and state = 'active' and wait_event = 'ClientRead' \
             and query like 'copy event%' \
             and state_change < clock_timestamp() - $1::float8 * interval '1 second'",
            &[&after.as_secs_f64()],
        )
        .await?;
    Ok(rows.len())
}

/// Positions of the events whose id appears for the first time in the batch.
fn first_of_each_id(events: &[(usize, &Event)]) -> Vec<usize> {
    let mut seen: HashSet<(Uuid, &str)> = HashSet::with_capacity(events.len());
    events
        .iter()
        .enumerate()
        .filter(|(_, (_, event))| seen.insert((event.event_id, event.tenant_id.as_str())))
        .map(|(at, _)| at)
        .collect()
}
