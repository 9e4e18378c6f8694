//! Writing into PostgreSQL: what many callers have queued goes in one statement, and its commit
//! acknowledges them all.

use std::sync::Arc;

use backon::ExponentialBackoff;
use store::log::{Appender, NewRow};
use store::timeout::with_timeout;
use store::{Database, Error, Kind, LogThrottle};
use tokio::sync::mpsc::UnboundedReceiver;

use super::backoff::pauses;
use super::pending::{Pending, Row, Shared};
use crate::publisher::PublishError;

/// The task that writes.
pub(super) struct Writer {
    db: Database,
    shared: Arc<Shared>,
    pending: UnboundedReceiver<Pending>,
    complaint: LogThrottle,
}

impl Writer {
    pub(super) fn new(
        db: Database,
        shared: Arc<Shared>,
        pending: UnboundedReceiver<Pending>,
    ) -> Self {
        Self {
            db,
            shared,
            pending,
            complaint: LogThrottle::default(),
        }
    }

    /// Connects and writes, until nobody is left to write for.
    pub(super) async fn run(mut self) {
        let mut backoff: ExponentialBackoff = pauses();
        loop {
            match with_timeout(Appender::connect(&self.db)).await {
                Ok(appender) => {
                    backoff = pauses();
                    self.shared.set_connected(true);
                    let ended = self.write(appender).await;
                    self.shared.set_connected(false);
                    if ended {
                        return;
                    }
                }
                Err(error) => self.complain(&error),
            }
            // Those who came before it broke; who comes now is refused at once.
            while let Ok(pending) = self.pending.try_recv() {
                pending.answer(&Err(PublishError::Unavailable));
            }
            if self.pending.is_closed() {
                return;
            }
            tokio::time::sleep(backoff.next().unwrap_or_default()).await;
        }
    }

    /// Writes until the connection breaks; true if there is nobody left to write for.
    async fn write(&mut self, mut appender: Appender) -> bool {
        loop {
            let first = tokio::select! {
                biased;
                pending = self.pending.recv() => match pending {
                    Some(pending) => pending,
                    None => return true,
                },
                () = appender.closed() => return false,
            };
            let batch = self.gather(first);
            if !self.append(&appender, batch).await || appender.is_closed() {
                return false;
            }
        }
    }

    /// What else is queued, up to the limits of a statement.
    fn gather(&mut self, first: Pending) -> Vec<Pending> {
        let config = &self.shared.config;
        let (mut records, mut bytes) = (first.records.len(), first.bytes);
        let mut batch = vec![first];
        while records < config.batch_records
            && bytes < config.batch_bytes
            && let Ok(more) = self.pending.try_recv()
        {
            records += more.records.len();
            bytes += more.bytes;
            batch.push(more);
        }
        batch
    }

    /// Writes a batch and answers it. False if the connection must not be used again.
    async fn append(&mut self, appender: &Appender, batch: Vec<Pending>) -> bool {
        let result = self.execute(appender, &batch).await;
        match result {
            Ok(()) => answer(batch, &Ok(())),
            Err(Some(error)) if error.kind() == Kind::Data && batch.len() > 1 => {
                // One of them is to blame: each for itself. Those that are left when the connection
                // has to be given up answer for themselves.
                for pending in batch {
                    if !Box::pin(self.append(appender, vec![pending])).await {
                        return false;
                    }
                }
            }
            Err(Some(error)) => {
                self.complain(&error);
                let why = match error.kind() {
                    Kind::Data => PublishError::Failed(error.to_string()),
                    Kind::Transient | Kind::Conflict | Kind::Rules => PublishError::Unavailable,
                };
                answer(batch, &Err(why));
                // What failed once may fail for ever on this connection: a plan that is out of date, a
                // server that is no longer the primary.
                return error.kind() == Kind::Data;
            }
            Err(None) => {
                tracing::warn!("the database does not answer; its connection is given up");
                answer(batch, &Err(PublishError::Unavailable));
                return false;
            }
        }
        true
    }

    /// `None` as an error: no answer in time.
    async fn execute(&self, appender: &Appender, batch: &[Pending]) -> Result<(), Option<Error>> {
        let records = batch.iter().flat_map(|pending| &pending.records);
        let rows: Vec<NewRow<'_>> = records.map(Row::new_row).collect();
        let limit = self.shared.config.message_timeout;
        match tokio::time::timeout(limit, appender.append(&rows)).await {
            Ok(result) => result.map_err(Some),
            Err(_) => Err(None),
        }
    }

    fn complain(&mut self, error: &Error) {
        if self.complaint.allows() {
            tracing::warn!(error = %error, "postgres log");
        }
    }
}

fn answer(batch: Vec<Pending>, outcome: &Result<(), PublishError>) {
    for pending in batch {
        pending.answer(outcome);
    }
}
