//! The outbox: messages that are to be sent. Storing transactions leave those for events of the Postgres
//! log, whose records are gone once they are stored: what a crash leaves unsent is still here. And what
//! Kafka does not take in time waits here, so that nothing waits for it.

use tokio_postgres::Transaction;

use crate::error::Error;
use crate::log::locks::{CLASS, NATS_OUTBOX, OUTBOX};
use crate::pool::Database;
use crate::write::dead_letters::{self, DeadLetter};

/// The oldest messages, in order, up to a number and a sum of bytes, but always the first. How long a
/// payload is is known without reading it.
const TAKE: &str = "select o.id, o.tenant_id, o.subject, o.key, o.payload from ( \
        select id, sum(octet_length(payload)) over (order by id) as total, \
            row_number() over (order by id) as number \
        from (select id, payload from outbox where sink = $3 order by id limit $1) first \
    ) page join outbox o on o.sink = $3 and o.id = page.id \
    where page.total <= $2 or page.number = 1 order by o.id";

/// Where messages are sent. Each has its own rows: one that cannot be reached holds up no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Kafka.
    Kafka = 1,
    /// JetStream of NATS.
    Nats = 2,
}

/// Where a process announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sinks {
    /// On Kafka.
    pub kafka: bool,
    /// On NATS.
    pub nats: bool,
}

impl Sinks {
    /// Whether there is none: nothing is announced.
    #[must_use]
    pub fn is_empty(self) -> bool {
        !self.kafka && !self.nats
    }

    /// Each of them.
    pub(crate) fn iter(self) -> impl Iterator<Item = Sink> {
        let kafka = self.kafka.then_some(Sink::Kafka);
        kafka.into_iter().chain(self.nats.then_some(Sink::Nats))
    }
}

/// How it is told of a thing, and where.
#[derive(Debug)]
pub struct Announce<T> {
    /// Where.
    pub to: Sinks,
    /// The message that tells of it.
    pub as_message: fn(&T) -> Message,
}

// Derived, it would want `T` to be that too.
impl<T> Clone for Announce<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Announce<T> {}

impl<T> Announce<T> {
    /// Nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self {
            to: Sinks::default(),
            as_message: |_| Message::default(),
        }
    }

    /// The messages of these things; none if nothing is announced.
    pub(crate) fn messages<'a>(&self, things: impl Iterator<Item = &'a T>) -> Vec<Message>
    where
        T: 'a,
    {
        if self.to.is_empty() {
            return Vec::new();
        }
        things.map(self.as_message).collect()
    }
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Whose it is.
    pub tenant_id: String,
    /// What it is about, dotted: `event.stored`.
    pub subject: String,
    /// Messages of one key keep their order.
    pub key: Vec<u8>,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// How large one page of the outbox may be.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Messages at most.
    pub messages: i64,
    /// Bytes of payloads at most; the first message comes in any case.
    pub bytes: i64,
}

/// The outcome of [`send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The outbox is empty.
    Nothing,
    /// Another process is sending.
    Elsewhere,
    /// A page was sent; there may be more.
    Page,
    /// Some of the page could not be sent now and stays in the outbox.
    Later,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was sent.
    Sent,
    /// It could not be sent now.
    Later,
    /// It never can be, and is kept as this.
    Never(Box<DeadLetter>),
}

/// Hands the oldest page for that sink to `publish`, which says of each message what became of it, and deletes what
/// need not be sent again. One process at a time does this for each sink.
///
/// # Errors
/// The database does not answer. If the commit fails, the page is sent again.
pub async fn send(
    db: &Database,
    sink: Sink,
    page: Page,
    publish: impl AsyncFnOnce(Vec<Message>) -> Vec<Outcome>,
) -> Result<Sent, Error> {
    let mut client = db.client().await?;
    let number = sink as i16;
    let waiting = "select exists (select from outbox where sink = $1)";
    if !client
        .query_one(waiting, &[&number])
        .await?
        .get::<_, bool>(0)
    {
        return Ok(Sent::Nothing);
    }
    let tx = client.transaction().await?;
    let lock = format!("select pg_try_advisory_xact_lock({CLASS}, $1)");
    let held = match sink {
        Sink::Kafka => OUTBOX,
        Sink::Nats => NATS_OUTBOX,
    };
    if !tx.query_one(&lock, &[&held]).await?.get::<_, bool>(0) {
        return Ok(Sent::Elsewhere);
    }
    let (ids, messages): (Vec<i64>, Vec<Message>) =
        take(&tx, sink, page).await?.into_iter().unzip();
    if messages.is_empty() {
        return Ok(Sent::Nothing);
    }
    let mut outcomes = publish(messages).await;
    outcomes.resize(ids.len(), Outcome::Later);
    let settled = ids.iter().zip(&outcomes);
    let settled = settled.filter(|(_, outcome)| **outcome != Outcome::Later);
    let settled: Vec<i64> = settled.map(|(id, _)| *id).collect();
    let letters = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Never(letter) => Some(&**letter),
        Outcome::Sent | Outcome::Later => None,
    });
    let letters: Vec<&DeadLetter> = letters.collect();
    let statement = tx.prepare(dead_letters::INSERT).await?;
    dead_letters::insert(&tx, &statement, &letters).await?;
    let delete = "delete from outbox where sink = $1 and id = any($2)";
    tx.execute(delete, &[&number, &settled]).await?;
    tx.commit().await?;
    Ok(if settled.len() == ids.len() {
        Sent::Page
    } else {
        Sent::Later
    })
}

async fn take(tx: &Transaction<'_>, sink: Sink, page: Page) -> Result<Vec<(i64, Message)>, Error> {
    // Few keys of a table that is empty at one moment and large at the next, see `Writer::connect`.
    tx.batch_execute(
        "set local enable_seqscan = off; set local enable_hashjoin = off; \
         set local enable_mergejoin = off; set local idle_in_transaction_session_timeout = '60s'",
    )
    .await?;
    let rows = tx
        .query(TAKE, &[&page.messages, &page.bytes, &(sink as i16)])
        .await?;
    let message = |row: &tokio_postgres::Row| -> Result<(i64, Message), tokio_postgres::Error> {
        let message = Message {
            tenant_id: row.try_get(1)?,
            subject: row.try_get(2)?,
            key: row.try_get(3)?,
            payload: row.try_get(4)?,
        };
        Ok((row.try_get(0)?, message))
    };
    Ok(rows.iter().map(message).collect::<Result<Vec<_>, _>>()?)
}
