//! The outbox: messages that storing transactions left to be sent. For events of the Postgres log,
//! whose records are gone once they are stored: what a crash leaves unsent is still here.

use tokio_postgres::Transaction;

use crate::error::Error;
use crate::log::locks::{CLASS, OUTBOX};
use crate::pool::Database;

/// The oldest messages, up to a number and a sum of bytes, but always the first.
const TAKE: &str = "with page as ( \
        select id from ( \
            select id, sum(octet_length(payload)) over (order by id) as total, \
                row_number() over (order by id) as number \
            from (select id, payload from outbox order by id limit $1) first \
        ) summed where total <= $2 or number = 1 \
    ) \
    delete from outbox o using page where o.id = page.id \
    returning o.id, o.tenant_id, o.subject, o.key, o.payload";

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The outbox is empty, or another process is sending.
    Nothing,
    /// A page was sent; there may be more.
    Page,
    /// The page could not be sent now and stays in the outbox.
    Later,
}

/// Hands the oldest page to `publish`, in order, and deletes it if that returns true. One process at
/// a time does this.
///
/// # Errors
/// The database does not answer. If the commit fails, the page is sent again.
pub async fn send(
    db: &Database,
    page: Page,
    publish: impl AsyncFnOnce(Vec<Message>) -> bool,
) -> Result<Sent, Error> {
    let mut client = db.client().await?;
    let waiting = "select exists (select from outbox)";
    if !client.query_one(waiting, &[]).await?.get::<_, bool>(0) {
        return Ok(Sent::Nothing);
    }
    let tx = client.transaction().await?;
    let lock = format!("select pg_try_advisory_xact_lock({CLASS}, $1)");
    if !tx.query_one(&lock, &[&OUTBOX]).await?.get::<_, bool>(0) {
        return Ok(Sent::Nothing);
    }
    let messages = take(&tx, page).await?;
    if messages.is_empty() {
        return Ok(Sent::Nothing);
    }
    if publish(messages).await {
        tx.commit().await?;
        return Ok(Sent::Page);
    }
    tx.rollback().await?;
    Ok(Sent::Later)
}

async fn take(tx: &Transaction<'_>, page: Page) -> Result<Vec<Message>, Error> {
    // Few keys of a table that is empty at one moment and large at the next, see `Writer::connect`.
    tx.batch_execute(
        "set local enable_seqscan = off; set local enable_hashjoin = off; \
         set local enable_mergejoin = off; set local idle_in_transaction_session_timeout = '60s'",
    )
    .await?;
    let rows = tx.query(TAKE, &[&page.messages, &page.bytes]).await?;
    let message = |row: &tokio_postgres::Row| -> Result<(i64, Message), tokio_postgres::Error> {
        let message = Message {
            tenant_id: row.try_get(1)?,
            subject: row.try_get(2)?,
            key: row.try_get(3)?,
            payload: row.try_get(4)?,
        };
        Ok((row.try_get(0)?, message))
    };
    let mut messages = rows.iter().map(message).collect::<Result<Vec<_>, _>>()?;
    messages.sort_unstable_by_key(|(id, _)| *id);
    Ok(messages.into_iter().map(|(_, message)| message).collect())
}
