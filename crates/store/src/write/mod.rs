//! The write: everything that follows from a batch of records, in one transaction.
//!
//! A flat list of steps, one module each, in the order in which their locks are taken: [`erased`] (what
//! nobody is to have any more), [`new`] (which ids are not stored yet), [`streams`] (numbers of the events of aggregates), [`claim`] (ids into
//! `event_ids`), [`copy`] (rows into `events`), [`projections`] (folded into read models), [`work`] (what
//! rules want done with them), [`outbox`], [`dead_letters`], [`duplicates`], [`counts`], [`positions`]. The
//! counts are few and hot, so they come as late as possible: writers wait for each other only there, and
//! where they append to one stream.

mod binary;
mod claim;
mod copy;
mod counts;
pub(crate) mod dead_letters;
mod duplicates;
mod erased;
mod frozen;
mod new;
pub(crate) mod outbox;
mod partitions;
mod pending;
pub mod positions;
mod projections;
mod streams;
mod types;
mod work;

#[doc(hidden)]
pub use binary::{HEADER, TRAILER};
pub use claim::stored;
#[doc(hidden)]
pub use copy::{COPY, Rows};
pub(crate) use counts::hour_of;
pub use dead_letters::DeadLetter;
pub use frozen::end_frozen;
pub(crate) use outbox::announce;
pub use outbox::leave;
pub use pending::{Pending, RecordPlace};
pub use positions::Advance;
pub use types::OTHER;
pub use work::{Due, Matched};

use std::collections::HashSet;
use std::sync::Arc;

use domain::Event;
use domain::fold::Extensions;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::error::Error;
use crate::outbox::Announce;
use crate::pool::Database;
use crate::rules;

/// The reason of a dead letter whose event expected another version of its stream.
pub const VERSION_CONFLICT: &str = "version_conflict";
/// The reason of a dead letter whose event's id is stored with other content.
pub const ID_CONFLICT: &str = "id_conflict";

/// What one transaction stores.
pub struct Batch<'a> {
    /// What the rules want done with the events; `None` where there are no rules.
    pub matched: Option<&'a Matched>,
    /// The events to store, by ascending item.
    pub events: &'a [Pending<'a>],
    /// The records to keep as dead letters.
    pub dead_letters: &'a [&'a DeadLetter],
    /// The step of every partition touched.
    pub advances: &'a [Advance],
    /// The consumer that must still own these partitions; none in a log that names no owner.
    pub owner: Option<Uuid>,
    /// What each event stored now leaves in the outbox.
    pub announce: Announce<Event>,
    /// Makes the dead letter of an event that a step refuses, of a reason and a sentence.
    pub refuse: &'a (dyn Fn(&Pending<'_>, &'static str, String) -> DeadLetter + Sync),
}

/// What a transaction did.
#[derive(Debug)]
pub struct Written<'a> {
    /// The events stored now. What is neither here, nor refused, nor dropped was stored before.
    pub new: Vec<Pending<'a>>,
    /// The dead letters of events that a step refused.
    pub refused: Vec<DeadLetter>,
    /// The dead letters of the batch that were kept; those of erased users are dropped.
    pub letters: Vec<&'a DeadLetter>,
    /// Events that were accepted of users before they were erased, and dropped.
    pub erased: usize,
}

/// One writer: a connection of its own with its statements prepared.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    rules: rules::Statements,
    erased: erased::Erased,
    new: Statement,
    looks: new::Looks,
    streams: streams::Statements,
    claim: Statement,
    copy: Statement,
    work: Statement,
    projections: projections::Projections,
    outbox: Statement,
    dead_letters: dead_letters::Statements,
    duplicates: Statement,
    partitions: partitions::Numbers,
    counts: counts::Statements,
    types: types::Types,
    positions: positions::Statements,
    others: u64,
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
            rules: rules::Statements::prepare(&client).await?,
            erased: erased::Erased::prepare(&client).await?,
            new: client.prepare(new::KNOWN).await?,
            looks: new::Looks::default(),
            streams: streams::Statements::prepare(&client).await?,
            claim: client.prepare(claim::CLAIM).await?,
            copy: client.prepare(COPY).await?,
            work: client.prepare(work::INSERT).await?,
            projections: projections::Projections::prepare(&client).await?,
            outbox: client.prepare(outbox::INSERT).await?,
            dead_letters: dead_letters::Statements::prepare(&client).await?,
            duplicates: client.prepare(duplicates::NOTE).await?,
            partitions: partitions::Numbers::default(),
            counts: counts::Statements::prepare(&client).await?,
            types: types::Types::prepare(&client).await?,
            positions: positions::Statements::prepare(&client).await?,
            others: 0,
            client,
        })
    }

    /// Counts a tenant's day by so many types at most; the events of more are counted as [`OTHER`].
    #[must_use]
    pub fn with_types_a_day(mut self, most: usize) -> Self {
        self.types.most = most;
        self
    }

    /// Folds with these extensions.
    #[must_use]
    pub fn with_extensions(mut self, extensions: Arc<Extensions>) -> Self {
        self.projections.extensions = extensions;
        self
    }

    /// How many events were counted as [`OTHER`] since this was last asked.
    pub fn take_others(&mut self) -> u64 {
        std::mem::take(&mut self.others)
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
    /// that a connection lost during the commit leaves it unknown: the positions tell.
    pub async fn write<'a>(&mut self, batch: &Batch<'a>) -> Result<Written<'a>, Error> {
        let written = self.attempt(batch).await;
        if written.is_err() {
            self.types.forget();
        }
        written
    }

    async fn attempt<'a>(&mut self, batch: &Batch<'a>) -> Result<Written<'a>, Error> {
        if !self.looks.is_due() {
            if let Some(written) = self.transaction(batch, false).await? {
                return Ok(written);
            }
            self.looks.failed();
        }
        let written = self.transaction(batch, true).await?;
        written.ok_or_else(|| {
            Error::Conflict("another writer has just stored one of these events".to_owned())
        })
    }

    /// `None` if an event that was taken for new is stored.
    async fn transaction<'a>(
        &mut self,
        batch: &Batch<'a>,
        looks: bool,
    ) -> Result<Option<Written<'a>>, Error> {
        self.partitions.learn(&self.client, batch.events).await?;
        let known = looks.then_some(&self.new);
        let tx = self.client.transaction().await?;
        let mut dropped = erased::Dropped::new();
        let mut events = self.erased.events(batch.events, &mut dropped);
        // Sent together: the rules cost no round trip of their own.
        let (rules, mut selected) = tokio::try_join!(
            rules::hold(&tx, &self.rules),
            new::select(&tx, known, &events)
        )?;
        if batch
            .matched
            .is_some_and(|matched| matched.version != rules)
        {
            return Err(Error::Rules);
        }
        if self.erased.learn(&tx, rules).await? {
            dropped.clear();
            events = self.erased.events(batch.events, &mut dropped);
            selected = new::select(&tx, known, &events).await?;
        }
        let kept = self.erased.letters(batch.dead_letters, &mut dropped);
        let erased = batch.events.len() - events.len();
        let new::Selected {
            mut new,
            conflicts: same_id,
            repeated,
        } = selected;
        let met = !same_id.is_empty() || !repeated.is_empty();
        let conflicts = streams::number(&tx, &self.streams, &mut new).await?;
        // An event that is stored expects the version of before it was.
        if !looks && !conflicts.is_empty() {
            return Ok(None);
        }
        let refused: Vec<_> = same_id
            .into_iter()
            .map(|pending| {
                let id = pending.event.event_id;
                let detail = format!("an event with the id {id} is stored with other content");
                (batch.refuse)(&pending, ID_CONFLICT, detail)
            })
            .chain(
                conflicts
                    .into_iter()
                    .map(|(pending, detail)| (batch.refuse)(&pending, VERSION_CONFLICT, detail)),
            )
            .collect();
        if !claim::claim(&tx, &self.claim, &self.partitions, &new).await? {
            return Ok(None);
        }
        let count = || counts::Counts::of(new.iter().map(|pending| pending.event));
        let counts = copy::copy(&tx, &self.copy, &new, count).await?;
        self.projections.fold(&tx, rules, &new).await?;
        if let Some(matched) = batch.matched {
            work::insert(&tx, &self.work, &matched.work, &new).await?;
        }
        let Announce { to, .. } = batch.announce;
        let stored = new.iter().map(|pending| pending.event);
        let messages = batch.announce.messages(stored);
        outbox::insert(&tx, &self.outbox, &messages, to).await?;
        let letters: Vec<_> = kept.iter().copied().chain(&refused).collect();
        let opened: HashSet<i64> = letters.iter().filter_map(|letter| letter.was).collect();
        let were = batch
            .events
            .iter()
            .filter_map(|pending| pending.dead_letter)
            .chain(batch.dead_letters.iter().filter_map(|letter| letter.was));
        let stored: Vec<i64> = were.filter(|id| !opened.contains(id)).collect();
        dead_letters::keep(&tx, &self.dead_letters, &stored, &letters).await?;
        duplicates::note(&tx, &self.duplicates, &repeated).await?;
        let others = counts::add(&tx, &self.counts, &mut self.types, counts).await?;
        self.erased.note(&tx, dropped).await?;
        positions::advance(&tx, &self.positions, batch.advances, batch.owner).await?;
        tx.commit().await?;
        self.others += others;
        self.looks.stored(met);
        Ok(Some(Written {
            new,
            refused,
            letters: kept,
            erased,
        }))
    }
}
