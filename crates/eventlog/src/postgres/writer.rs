//! Writing into PostgreSQL: what many callers have queued goes in one statement, and its commit
//! acknowledges them all.

use std::sync::Arc;

use store::LogThrottle;
use store::log::{Appender, NewRow};
use store::timeout::with_timeout;
use store::{Database, Error, Kind};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::Backoff;
use super::publisher::Shared;
use crate::queue::Reservation;
use crate::{Outgoing, PublishError};

/// The records of one call, and the room they take. Dropped without an answer they failed: a call is
/// answered, and its room given back, whatever becomes of the writer.
pub(super) struct Pending {
    shared: Arc<Shared>,
    records: Vec<Row>,
    bytes: usize,
    /// What the answer needs; taken by it.
    open: Option<(Reservation, oneshot::Sender<Result<(), PublishError>>)>,
}

impl Pending {
    /// Of records whose room is reserved; and where the answer comes.
    pub(super) fn new(
        shared: Arc<Shared>,
        records: Vec<Row>,
        reservation: Reservation,
    ) -> (Self, oneshot::Receiver<Result<(), PublishError>>) {
        let (ack, acknowledged) = oneshot::channel();
        let pending = Self {
            shared,
            records,
            bytes: reservation.bytes(),
            open: Some((reservation, ack)),
        };
        (pending, acknowledged)
    }

    /// Tells the caller.
    pub(super) fn answer(mut self, outcome: &Result<(), PublishError>) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: &Result<(), PublishError>) {
        let Some((reservation, ack)) = self.open.take() else {
            return;
        };
        reservation.finish(outcome.as_ref().err());
        // Nobody may be waiting.
        let _ = ack.send(outcome.clone());
        self.shared.answered.notify_waiters();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.settle(&Err(PublishError::Unavailable));
    }
}

/// A record with what its row has beside it.
pub(super) struct Row {
    pub(super) partition: i16,
    pub(super) record: Outgoing,
    pub(super) headers: Arc<[u8]>,
}

impl Row {
    fn new_row(&self) -> NewRow<'_> {
        let key = &self.record.key;
        NewRow {
            partition: self.partition,
            topic: &self.record.topic,
            key: (!key.is_empty()).then_some(key),
            headers: &self.headers,
            payload: Some(&self.record.payload),
        }
    }
}

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
        let mut backoff = Backoff::new();
        loop {
            match with_timeout(Appender::connect(&self.db)).await {
                Ok(appender) => {
                    backoff = Backoff::new();
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
            tokio::time::sleep(backoff.next()).await;
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
                    Kind::Transient | Kind::Conflict => PublishError::Unavailable,
                };
                answer(batch, &Err(why));
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
