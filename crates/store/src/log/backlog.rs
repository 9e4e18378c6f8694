//! How many records wait in the log.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Client;

use super::partition::LOG;
use crate::error::Error;
use crate::pool::Database;

/// What waits in the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Records appended and not yet stored.
    pub records: i64,
    /// Age of the oldest of them; `None` when there is none.
    pub oldest: Option<Duration>,
}

/// How long one count may take. After hours without a consumer the table is large and on the disk.
const COUNTING: Duration = Duration::from_secs(60);

/// A connection that counts: nothing else is to wait for it.
#[derive(Debug)]
pub struct Counter {
    client: Client,
}

impl Counter {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn connect(db: &Database) -> Result<Self, Error> {
        let client = db.connect().await?;
        // The index is always right: dead rows lie before the stored positions.
        let limit = format!(
            "set statement_timeout = '{}s'; set enable_seqscan = off; set enable_bitmapscan = off",
            COUNTING.as_secs()
        );
        client.batch_execute(&limit).await?;
        Ok(Self { client })
    }

    /// What waits in the whole log, and the rows of each partition that has any. Counts rows, which takes
    /// a tenth of a second per million where they are in memory and much longer where they are not. What is
    /// stored and not vacuumed yet, because of an old snapshot, is not looked at.
    ///
    /// # Errors
    /// The database does not answer or takes too long, or the schema is not there yet.
    pub async fn count(&self) -> Result<(Backlog, HashMap<i16, i64>), Error> {
        let counted = format!(
            "select p.partition::int2, (select count(*) from event_log l \
                 where l.partition = p.partition::int2 and l.id >= p.stored) \
             from log_positions p where p.topic = '{LOG}'"
        );
        let partitions: HashMap<i16, i64> = self
            .client
            .query(&counted, &[])
            .await?
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .filter(|(_, rows)| *rows > 0)
            .collect();
        let backlog = Backlog {
            records: partitions.values().sum(),
            oldest: self.oldest().await?,
        };
        Ok((backlog, partitions))
    }

    /// The age of the oldest row, from the first one of each partition.
    async fn oldest(&self) -> Result<Option<Duration>, Error> {
        let oldest = format!(
            "select extract(epoch from clock_timestamp() - min(first.created_at))::float8 \
             from log_positions p cross join lateral ( \
                 select created_at from event_log l \
                 where l.partition = p.partition::int2 and l.id >= p.stored order by l.id limit 1 \
             ) first where p.topic = '{LOG}'"
        );
        let row = self.client.query_one(&oldest, &[]).await?;
        let seconds: Option<f64> = row.get(0);
        // A clock set back makes it negative.
        Ok(
            seconds
                .map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()),
        )
    }
}
