//! Appending.

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Statement};

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
        let append = client
            .prepare("select log_append($1, $2, $3, $4, $5)")
            .await?;
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
        let partitions: Vec<i16> = rows.iter().map(|row| row.partition).collect();
        let topics: Vec<&str> = rows.iter().map(|row| row.topic).collect();
        let keys: Vec<Option<&[u8]>> = rows.iter().map(|row| row.key).collect();
        let headers: Vec<&[u8]> = rows.iter().map(|row| row.headers).collect();
        let payloads: Vec<Option<&[u8]>> = rows.iter().map(|row| row.payload).collect();
        self.client
            .execute(
                &self.append,
                &[&partitions, &topics, &keys, &headers, &payloads],
            )
            .await?;
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
