//! Bounded reads: each ends in time, and is repeated once if its connection turns out dead.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::error::Error;
use crate::pool::{Client, Database};

/// Runs reads on pooled connections.
#[derive(Clone)]
pub struct Reader {
    db: Database,
    timeout: Duration,
}

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
        Self { db, timeout }
    }

    /// Runs `work`, and once again if the connection proves to have been lost (PostgreSQL was
    /// started again in the meantime).
    ///
    /// # Errors
    /// The database does not answer, or not in time.
    pub async fn read<T>(
        &self,
        work: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, ReadError> {
        let mut again = true;
        loop {
            match self.attempt(&work).await {
                Err((ReadError::Store(_), true)) if again => again = false,
                Err((error, _)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// One try; an error comes with whether the connection was lost.
    async fn attempt<T>(
        &self,
        work: &impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, (ReadError, bool)> {
        let client = self.db.client().await.map_err(|e| (e.into(), false))?;
        let guarded = Guarded(Some(client));
        let Some(client) = guarded.0.as_ref() else {
            return Err((ReadError::TooSlow(self.timeout), false));
        };
        let run = async {
            if Client::metrics(client).recycle_count == 0 {
                let millis = self.timeout.as_millis();
                client
                    .batch_execute(&format!("set statement_timeout = {millis}"))
                    .await?;
            }
            work(client).await
        };
        // The server ends a statement itself; this is for a server that says nothing at all.
        match tokio::time::timeout(self.timeout * 2, run).await {
            Err(_) => Err((ReadError::TooSlow(self.timeout), false)),
            Ok(Ok(answer)) => {
                guarded.give_back();
                Ok(answer)
            }
            Ok(Err(error)) => {
                let code = match &error {
                    Error::Database(database) => database.code().map(SqlState::code),
                    _ => None,
                };
                let canceled = code == Some(SqlState::QUERY_CANCELED.code());
                // No code: the words are the client's own. 57P01 to 57P03: the server is leaving.
                let lost = client.is_closed()
                    || code.is_none_or(|code| ["57P01", "57P02", "57P03"].contains(&code));
                if !lost {
                    guarded.give_back();
                }
                Err(if canceled {
                    (ReadError::TooSlow(self.timeout), false)
                } else {
                    (error.into(), lost)
                })
            }
        }
    }
}
