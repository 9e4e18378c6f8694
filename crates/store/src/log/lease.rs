//! Owning partitions: by advisory locks of a session that does little else, so that the server ends it
//! soon after its process froze.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::{AsyncMessage, Client, Statement};

use super::locks::{CLASS, CONSUMER};
use super::partition::PARTITIONS;
use crate::error::Error;
use crate::pool::Database;
use crate::timeout::heard_or_dropped;

/// One of the processors that share the partitions. Its locks end with its connection.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    pid: i32,
    members: Statement,
    lock: Statement,
    unlock: Statement,
}

impl Lease {
    /// Connects, takes part from now on, and has `appended` notified after every append.
    ///
    /// # Errors
    /// The server cannot be reached, or the schema is not there yet.
    pub async fn connect(db: &Database, appended: Arc<Notify>) -> Result<Self, Error> {
        let notify = move |message: &AsyncMessage| {
            if matches!(message, AsyncMessage::Notification(_)) {
                appended.notify_one();
            }
        };
        let (client, _connection) = db.connect_watched(notify).await?;
        // A frozen process keeps its connection and with it its partitions. It asks every second as long
        // as it lives.
        heard_or_dropped(&client, "frozen processors will keep their partitions").await?;
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
        let members = format!(
            "select pid from pg_locks where locktype = 'advisory' and objsubid = 2 and granted \
             and database = (select oid from pg_database where datname = current_database()) \
             and classid = ({CLASS})::oid and objid = ($1::int4)::oid order by pid"
        );
        let lock = format!("select pg_try_advisory_lock({CLASS}, $1::int4)");
        let unlock = format!("select pg_advisory_unlock({CLASS}, $1::int4)");
        Ok(Self {
            pid,
            members: client.prepare(&members).await?,
            lock: client.prepare(&lock).await?,
            unlock: client.prepare(&unlock).await?,
            client,
        })
    }

    /// How many partitions are this member's fair share among those who take part now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn fair_share(&self) -> Result<usize, Error> {
        let rows = self.client.query(&self.members, &[&CONSUMER]).await?;
        let pids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        Ok(share(&pids, self.pid))
    }

    /// Takes a partition, unless another member has it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn acquire(&self, partition: i16) -> Result<bool, Error> {
        let row = self
            .client
            .query_one(&self.lock, &[&i32::from(partition)])
            .await?;
        Ok(row.get(0))
    }

    /// Gives a partition back.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn release(&self, partition: i16) -> Result<(), Error> {
        self.client
            .execute(&self.unlock, &[&i32::from(partition)])
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

/// The partitions divided by the members; the first ones, by pid, take what is left over.
fn share(members: &[i32], own: i32) -> usize {
    let partitions = usize::from(PARTITIONS.unsigned_abs());
    let count = members.len().max(1);
    let rank = members.iter().position(|pid| *pid == own).unwrap_or(0);
    partitions / count + usize::from(rank < partitions % count)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn shares_add_up_to_all_lanes() {
        for count in 1..40 {
            let members: Vec<i32> = (0..count).map(|n| n * 7).collect();
            let shares: Vec<usize> = members.iter().map(|pid| share(&members, *pid)).collect();
            assert_eq!(shares.iter().sum::<usize>(), 16, "{count} members");
            let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
            assert!(spread <= 1, "{shares:?}");
        }
    }
}
