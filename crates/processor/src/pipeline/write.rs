//! Writes a batch until it is written: waits where waiting helps, checks again where another
//! consumer was faster, and splits the batch down to the one record that the database refuses.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use domain::Event;
use domain::fold::Extensions;
use eventlog::Source;
use store::outbox::Announce;
use store::write::{Batch, DeadLetter, Pending, Writer, end_frozen};
use store::{Database, Error, Kind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::dead_letter::dead_letter;
use super::decode::{Content, Decoded, Item};
use super::plan::Positions;
use super::settle::{Committed, Outcome, Settle, Stored};
use crate::instrumentation::Instrumentation;
use crate::metrics::Metrics;
use crate::rules::RuleCache;

/// A writer that has sent nothing for this long in the middle of a COPY is frozen. Below the time
/// that others wait for its locks.
const FROZEN: Duration = Duration::from_secs(15);

/// Pauses between attempts: 0.1 s, doubled up to 5 s, without end.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .build()
}

/// The writing stage of one worker.
pub struct WriteStage {
    db: Database,
    source: Arc<dyn Source>,
    positions: Positions,
    announce: Announce<Event>,
    types_a_day: usize,
    rules: RuleCache,
    extensions: Arc<Extensions>,
    instrumentation: Option<Instrumentation>,
    metrics: Arc<Metrics>,
    writer: Option<Writer>,
    notify: Option<mpsc::Sender<()>>,
}

impl WriteStage {
    /// A stage that will connect with its first batch. What is announced of events is left in the outbox.
    #[must_use]
    pub fn new(
        db: Database,
        source: Arc<dyn Source>,
        announce: Announce<Event>,
        types_a_day: usize,
        rules: RuleCache,
        extensions: Arc<Extensions>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            db,
            positions: Positions::new(Arc::clone(&source)),
            source,
            announce,
            types_a_day,
            rules,
            extensions,
            instrumentation: None,
            metrics,
            writer: None,
            notify: None,
        }
    }

    /// The same that has note taken of how events are built.
    #[must_use]
    pub(crate) fn with_instrumentation(mut self, with: Option<Instrumentation>) -> Self {
        self.instrumentation = with;
        self
    }

    /// The same that gives notice of each batch, so that what it left in the outbox is sent.
    #[must_use]
    pub(crate) fn notifying(mut self, notify: Option<mpsc::Sender<()>>) -> Self {
        self.notify = notify;
        self
    }

    /// Writes every batch that comes, in order, until there are no more. What follows from a commit is
    /// worked out beside the next transaction.
    pub async fn run(self, input: mpsc::Receiver<Decoded>, output: mpsc::Sender<Stored>) {
        let settle = Settle {
            instrumentation: self.instrumentation.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let (committed, to_settle) = mpsc::channel(1);
        // Dropped with this, it ends.
        let mut beside = JoinSet::new();
        beside.spawn(settle.run(to_settle, output));
        self.write(input, committed).await;
        beside.join_all().await;
    }

    async fn write(mut self, mut input: mpsc::Receiver<Decoded>, output: mpsc::Sender<Committed>) {
        while let Some(mut batch) = input.recv().await {
            let outcome = self.store(&mut batch).await;
            if let Some(notify) = &self.notify {
                // One notice is enough, however much was stored since the last.
                let _ = notify.try_send(());
            }
            let done = self.positions.stored(&batch.items);
            let committed = Committed {
                batch,
                outcome,
                done,
            };
            if output.send(committed).await.is_err() {
                break;
            }
        }
    }

    async fn store(&mut self, batch: &mut Decoded) -> Outcome {
        let mut outcome = Outcome::default();
        let mut backoff = pauses();
        // Ranges still to be written, the next one last.
        let mut todo = Vec::from([Range {
            start: 0,
            end: batch.items.len(),
        }]);
        while let Some(range) = todo.pop() {
            let Err(error) = self.attempt(batch, range.clone(), &mut outcome).await else {
                backoff = pauses();
                continue;
            };
            let kind = error.kind();
            self.metrics.write_failed(kind);
            match kind {
                Kind::Conflict => {
                    tracing::info!(error = %error, "retrying the batch after a conflict");
                    self.positions.conflict();
                    todo.push(range);
                }
                Kind::Rules => {
                    match self.rules.reload().await {
                        Ok(rules) => batch.match_rules(&rules),
                        Err(error) => {
                            self.pause(backoff.next().unwrap_or_default(), &error).await;
                        }
                    }
                    todo.push(range);
                }
                Kind::Data if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    todo.push(middle..range.end);
                    todo.push(range.start..middle);
                }
                Kind::Data
                    if batch
                        .items
                        .get_mut(range.start)
                        .is_some_and(|item| into_dead_letter(item, &error)) =>
                {
                    todo.push(range);
                }
                Kind::Data | Kind::Transient => {
                    self.pause(backoff.next().unwrap_or_default(), &error).await;
                    todo.push(range);
                }
            }
        }
        outcome
    }

    /// One transaction for the items of that range, as far as they are not stored yet.
    async fn attempt(
        &mut self,
        batch: &Decoded,
        range: Range<usize>,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        if !self.writer.as_ref().is_some_and(Writer::is_open) {
            self.writer = None;
            let writer = Writer::connect(&self.db).await?;
            let writer = writer.with_types_a_day(self.types_a_day);
            self.writer = Some(writer.with_extensions(Arc::clone(&self.extensions)));
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let first = range.start;
        let items = batch.items.get(range).unwrap_or_default();
        let plan = self.positions.plan(writer, items, first).await?;
        outcome.announce.extend(&plan.announce);
        if plan.is_empty() {
            return Ok(());
        }
        let refuse = |pending: &Pending<'_>, reason: &'static str, detail: String| {
            refused(&batch.items[pending.item], pending.event, reason, &detail)
        };
        let started = Instant::now();
        let written = writer
            .write(&Batch {
                matched: Some(&batch.matched),
                events: &plan.store,
                dead_letters: &plan.letters,
                advances: &plan.advances,
                owner: self.source.delivery().map(|delivery| delivery.owner()),
                announce: self.announce,
                refuse: &refuse,
            })
            .await?;
        self.metrics.other_types.inc_by(writer.take_others());
        let took = started.elapsed();
        self.metrics
            .written(took, plan.store.len(), &written, &plan.letters);
        if !batch.matched.work.is_empty() {
            self.rules.notify();
        }
        outcome.stored(&plan.store, &written);
        self.positions.advanced(plan.advances);
        Ok(())
    }

    async fn pause(&mut self, pause: Duration, error: &Error) {
        if error.is_lock_timeout()
            && let Some(writer) = &self.writer
        {
            match end_frozen(writer.client(), FROZEN).await {
                Ok(0) => {}
                Ok(ended) => {
                    tracing::warn!(ended, "writers that were frozen have lost their locks");
                }
                Err(error) => tracing::debug!(error = %error, "frozen writers not looked for"),
            }
        }
        // What failed may fail for ever on this connection: a plan that is out of date, a server that
        // is no longer the primary.
        self.writer = None;
        tracing::warn!(error = %error, retry_in_ms = pause.as_millis(), "a batch could not be written yet; nothing is lost, it will be tried again");
        tokio::time::sleep(pause).await;
    }
}

/// Makes a dead letter of an event the database refused. False if it is one already: then only an
/// operator can help.
fn into_dead_letter(item: &mut Item, error: &Error) -> bool {
    let Content::Event { event, .. } = &item.content else {
        return false;
    };
    tracing::warn!(
        log.topic = &*item.record.topic, log.partition = item.record.partition,
        log.offset = item.record.offset, error = %error, "record refused by the database"
    );
    let letter = refused(item, event, "database", &error.to_string());
    item.content = Content::Dead(Box::new(letter));
    true
}

/// The dead letter of an event that is not stored.
fn refused(item: &Item, event: &Event, reason: &str, detail: &str) -> DeadLetter {
    DeadLetter {
        event_id: Some(event.event_id),
        ..dead_letter(
            &item.record,
            item.origin,
            event.tenant_id.clone(),
            reason,
            detail,
        )
    }
}
