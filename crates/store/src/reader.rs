//! Bounded reads: each ends in time, and is repeated once if its connection turns out dead.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio_postgres::error::SqlState;

use crate::error::Error;
use crate::partitions;
use crate::pool::{Client, Database};

/// Runs reads on pooled connections.
#[derive(Clone)]
pub struct Reader {
    db: Database,
    timeout: Duration,
    edges: Arc<Mutex<Option<(Instant, Edges)>>>,
}

/// Where partitions meet, the oldest first.
type Edges = Arc<[OffsetDateTime]>;

/// So long are edges used before they are looked up again; old ones are as right, only slower.
const EDGES: Duration = Duration::from_secs(60);

/// Why a read gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It took longer than allowed.
    #[error("the query took longer than {} seconds", .0.as_secs())]
    TooSlow(Duration),
    /// The database.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A pooled connection that is closed unless its work ended: one that still computes for a request
/// that is gone must not serve the next one.
struct Guarded(Option<Client>);

impl Guarded {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Client::take(client));
        }
    }
}

impl Reader {
    /// Reads from `db`; every statement may take as long as `timeout`. The pool must be this
    /// reader's alone, for its connections carry the timeout.
    #[must_use]
    pub fn new(db: Database, timeout: Duration) -> Self {
        Self {
            db,
            timeout,
            edges: Arc::default(),
        }
    }

    /// Where partitions of `events` meet, for the reads that go through them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn edges(&self, client: &Client) -> Result<Edges, Error> {
        let known = self
            .edges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match known {
            Some((at, edges)) if at.elapsed() < EDGES => Ok(edges),
            _ => {
                let edges: Edges = partitions::edges(client).await?.into();
                let now = Some((Instant::now(), Arc::clone(&edges)));
                *self.edges.lock().unwrap_or_else(PoisonError::into_inner) = now;
                Ok(edges)
            }
        }
    }

    /// Runs `work`, and once again if its connection proves to be of no use any more (PostgreSQL was
    /// started again, or has become a standby, in the meantime).
    ///
    /// # Errors
    /// The database does not answer, or not in time.
    pub async fn read<T>(
        &self,
        work: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, ReadError> {
        self.read_within(self.timeout, work).await
    }

    /// The same, with another time for each statement.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub async fn read_within<T>(
        &self,
        limit: Duration,
        work: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, ReadError> {
        let mut again = true;
        loop {
            match self.attempt(limit, &work).await {
                Err((ReadError::Store(_), true)) if again => again = false,
                Err((error, _)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// One try; an error comes with whether the connection was of no use.
    async fn attempt<T>(
        &self,
        limit: Duration,
        work: &impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, (ReadError, bool)> {
        let client = self.db.client().await.map_err(|e| (e.into(), false))?;
        let guarded = Guarded(Some(client));
        let Some(client) = guarded.0.as_ref() else {
            return Err((ReadError::TooSlow(limit), false));
        };
        let set = format!("set statement_timeout = {}", limit.as_millis());
        // Sent together: the setting costs no round trip of its own.
        let run = async {
            let set = async { Ok(client.batch_execute(&set).await?) };
            tokio::try_join!(biased; set, work(client)).map(|((), answer)| answer)
        };
        // The server ends a statement itself; this is for a server that says nothing at all.
        match tokio::time::timeout(limit * 2, run).await {
            Err(_) => Err((ReadError::TooSlow(limit), false)),
            Ok(Ok(answer)) => {
                guarded.give_back();
                Ok(answer)
            }
            Ok(Err(error)) => {
                let stale = client.is_closed() || error.is_stale_connection();
                if !stale {
                    guarded.give_back();
                }
                let canceled = matches!(&error, Error::Database(database)
                    if database.code() == Some(&SqlState::QUERY_CANCELED));
                Err(if canceled {
                    (ReadError::TooSlow(limit), false)
                } else {
                    (error.into(), stale)
                })
            }
        }
    }
}
