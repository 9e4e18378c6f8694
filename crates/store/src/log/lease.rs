//! Owning partitions: by advisory locks of a session that does little else, so that the server ends
//! it soon after its process froze.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, Statement};
use uuid::Uuid;

use super::locks::{CLASS, CONSUMER};
use super::partition::{LOG, PARTITIONS};
use crate::error::Error;
use crate::pool::Database;
use crate::timeout::end_if_silent;

/// A consumer's hold on partitions of the log. Its locks end with its connection.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    owner: Uuid,
    pid: i32,
    consumers: Statement,
    lock: Statement,
    unlock: Statement,
    own: Statement,
    live: Statement,
}

/// Where a partition stands when it is acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquired {
    /// The offset that is stored next.
    pub stored: i64,
    /// Another consumer had it and did not deliver to listeners all that it stored.
    pub behind: bool,
    /// The same consumer had it before.
    pub returned: bool,
}

impl Lease {
    /// Connects, takes part from now on as `owner`, and has `appended` notified after every append.
    ///
    /// # Errors
    /// The server cannot be reached, or the schema is not there yet.
    pub async fn connect(db: &Database, owner: Uuid, appended: Arc<Notify>) -> Result<Self, Error> {
        let notify = move |message: &AsyncMessage| {
            if matches!(message, AsyncMessage::Notification(_)) {
                appended.notify_one();
            }
        };
        let (client, _connection) = db.connect_watched(notify).await?;
        // A frozen process keeps its connection and with it its partitions. One that lives asks
        // every second.
        end_if_silent(&client, "frozen processors will keep their partitions").await?;
        // Asks for the table, so that a schema that is not there yet shows here.
        let exists = client.query_one("select pg_backend_pid(), 'event_log'::regclass::oid", &[]);
        let pid = exists.await?.get(0);
        let listen = client
            .query_one(
                "select format('listen %I', 'tidegate_log_' || current_schema())",
                &[],
            )
            .await?;
        client.batch_execute(listen.get(0)).await?;
        let join = format!("select pg_advisory_lock_shared({CLASS}, $1)");
        client.execute(&join, &[&CONSUMER]).await?;
        let consumers = format!(
            "select pid from pg_locks where locktype = 'advisory' and objsubid = 2 and granted \
             and database = (select oid from pg_database where datname = current_database()) \
             and classid = ({CLASS})::oid and objid = ($1::int4)::oid order by pid"
        );
        let lock = format!("select pg_try_advisory_lock({CLASS}, $1::int4)");
        let unlock = format!("select pg_advisory_unlock({CLASS}, $1::int4)");
        // Waits for a transaction that moves the position; one that comes later finds another owner.
        let own = format!(
            "with before as (select * from log_positions \
                 where topic = '{LOG}' and partition = $1 for update) \
             update log_positions p set owner = $2, updated_at = now() from before b \
             where p.topic = b.topic and p.partition = b.partition \
             returning b.stored, coalesce(b.live < b.stored, false), \
                 b.owner is not distinct from $2"
        );
        let live = format!(
            "update log_positions p set live = u.live, updated_at = now() \
             from unnest($1::int4[], $2::int8[]) u(partition, live) \
             where p.topic = '{LOG}' and p.partition = u.partition and p.owner = $3 \
                 and p.live is distinct from u.live"
        );
        Ok(Self {
            owner,
            pid,
            consumers: client.prepare(&consumers).await?,
            lock: client.prepare(&lock).await?,
            unlock: client.prepare(&unlock).await?,
            own: client.prepare(&own).await?,
            live: client.prepare(&live).await?,
            client,
        })
    }

    /// How many partitions are this consumer's fair share among those that take part now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn fair_share(&self) -> Result<usize, Error> {
        let rows = self.client.query(&self.consumers, &[&CONSUMER]).await?;
        let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        Ok(fair_share(&pids, self.pid))
    }

    /// Acquires a partition; `None` while another consumer has it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn acquire(&self, partition: i16) -> Result<Option<Acquired>, Error> {
        let number = i32::from(partition);
        let lock = self.client.query_one(&self.lock, &[&number]).await?;
        if !lock.get::<_, bool>(0) {
            return Ok(None);
        }
        let row = self
            .client
            .query_one(&self.own, &[&number, &self.owner])
            .await?;
        let returned: bool = row.get(2);
        Ok(Some(Acquired {
            stored: row.get(0),
            behind: row.get::<_, bool>(1) && !returned,
            returned,
        }))
    }

    /// Releases a partition.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn release(&self, partition: i16) -> Result<(), Error> {
        self.client
            .execute(&self.unlock, &[&i32::from(partition)])
            .await?;
        Ok(())
    }

    /// Writes up to which offset listeners have what is stored: pairs of partition and offset, of
    /// partitions that are still this owner's.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn write_live(&self, live: &[(i32, i64)]) -> Result<(), Error> {
        let (partitions, offsets): (Vec<i32>, Vec<i64>) = live.iter().copied().unzip();
        self.client
            .execute(&self.live, &[&partitions, &offsets, &self.owner])
            .await?;
        Ok(())
    }

    /// The connection, for a look at its session.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether the connection, and with it every partition, is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// The partitions divided by the consumers; the first ones, by pid, have what is left over.
fn fair_share(consumers: &[i32], own: i32) -> usize {
    let partitions = usize::from(PARTITIONS.unsigned_abs());
    let count = consumers.len().max(1);
    let rank = consumers.iter().position(|pid| *pid == own).unwrap_or(0);
    partitions / count + usize::from(rank < partitions % count)
}

#[cfg(test)]
mod tests {
    use super::fair_share;

    #[test]
    fn shares_add_up_to_all_partitions() {
        for count in 1..40 {
            let consumers: Vec<i32> = (0..count).map(|n| n * 7).collect();
            let shares: Vec<usize> = consumers
                .iter()
                .map(|pid| fair_share(&consumers, *pid))
                .collect();
            assert_eq!(shares.iter().sum::<usize>(), 16, "{count} consumers");
            let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
            assert!(spread <= 1, "{shares:?}");
        }
    }
}
