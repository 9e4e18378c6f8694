//! Appending.

use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement, Transaction};

use crate::error::Error;
use crate::pool::Database;

/// One record to append.
#[derive(Debug, Clone, Copy)]
pub struct NewRow<'a> {
    /// Its partition, of [`partition_of`](super::partition_of) unless its order is nobody's concern.
    pub partition: i16,
    /// Full topic name; without NUL.
    pub topic: &'a str,
    /// `None` for a record without key.
    pub key: Option<&'a [u8]>,
    /// As [`pack_headers`](super::pack_headers) makes them.
    pub headers: &'a [u8],
    /// The bytes.
    pub payload: Option<&'a [u8]>,
}

const APPEND: &str = "select log_append($1, $2, $3, $4, $5)";

/// The rows, column by column.
struct Columns<'a> {
    partitions: Vec<i16>,
    topics: Vec<&'a str>,
    keys: Vec<Option<&'a [u8]>>,
    headers: Vec<&'a [u8]>,
    payloads: Vec<Option<&'a [u8]>>,
}

impl<'a> Columns<'a> {
    fn of(rows: &[NewRow<'a>]) -> Self {
        Self {
            partitions: rows.iter().map(|row| row.partition).collect(),
            topics: rows.iter().map(|row| row.topic).collect(),
            keys: rows.iter().map(|row| row.key).collect(),
            headers: rows.iter().map(|row| row.headers).collect(),
            payloads: rows.iter().map(|row| row.payload).collect(),
        }
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 5] {
        [
            &self.partitions,
            &self.topics,
            &self.keys,
            &self.headers,
            &self.payloads,
        ]
    }
}

/// Appends rows once this transaction is committed. Others who append wait for that.
pub(crate) async fn append_with(tx: &Transaction<'_>, rows: &[NewRow<'_>]) -> Result<(), Error> {
    if !rows.is_empty() {
        tx.execute(APPEND, &Columns::of(rows).values()).await?;
    }
    Ok(())
}

/// A connection that appends.
#[derive(Debug)]
pub struct Appender {
    client: Client,
    append: Statement,
    connection: JoinHandle<()>,
}

impl Appender {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached, or the schema is not there yet.
    pub async fn connect(db: &Database) -> Result<Self, Error> {
        let (client, connection) = db.connect_watched(|_| ()).await?;
        // Those who wait for the lock behind a server process that hangs get an answer, from the
        // server and before they give up themselves: then it is certain that nothing was written.
        client
            .batch_execute("set lock_timeout = '4s'; set statement_timeout = '10s'")
            .await?;
        let append = client.prepare(APPEND).await?;
        Ok(Self {
            client,
            append,
            connection,
        })
    }

    /// Appends all rows, in their order, and returns when they are durable.
    ///
    /// # Errors
    /// None was appended; but where the connection was lost or the answer not awaited, all of them
    /// may have been.
    pub async fn append(&self, rows: &[NewRow<'_>]) -> Result<(), Error> {
        let columns = Columns::of(rows);
        self.client.execute(&self.append, &columns.values()).await?;
        Ok(())
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Returns when the connection is gone. May be cancelled and called again.
    pub async fn closed(&mut self) {
        // An error is a panic or an abort of its task, and then it is gone as well.
        let _ = (&mut self.connection).await;
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // One whose answer was not awaited must not go on unseen.
        self.connection.abort();
    }
}
