//! Writes a batch until it is written: waits where waiting helps, looks again where another
//! consumer was faster, and splits the batch down to the one record that the database refuses.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Event;
use eventlog::Permit;
use store::write::{Batch, Writer};
use store::{Database, Error, Kind};
use tokio::sync::mpsc;

use super::decode::{Content, Decoded, Item};
use super::partitions::Partitions;
use super::progress::Progress;
use super::untold::{Telling, Untold};
use crate::metrics::Metrics;

/// A writer that has sent nothing for this long in the middle of a COPY is frozen. Below the time
/// that others wait for its locks.
const FROZEN: Duration = Duration::from_secs(15);

/// A partition of a topic.
pub(super) type Partition = (Arc<str>, i32);

/// A batch that is in the database.
#[derive(Debug)]
pub struct Stored {
    /// The events to announce: those stored now, and those a crash may have left unannounced.
    pub announce: Vec<Event>,
    /// Up to where each partition is done, once they are announced.
    pub done: Vec<(Partition, i64)>,
    /// The batch's share of the buffer.
    pub permits: Vec<Permit>,
    /// To be ended once listeners are told.
    pub(super) telling: Option<Telling>,
}

/// The writing stage of one line.
pub struct WriteStage {
    db: Database,
    progress: Progress,
    partitions: Partitions,
    metrics: Arc<Metrics>,
    untold: Option<Arc<Untold>>,
    writer: Option<Writer>,
}

impl WriteStage {
    /// A stage that will connect with its first batch.
    #[must_use]
    pub fn new(
        db: Database,
        progress: Progress,
        partitions: Partitions,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            db,
            progress,
            partitions,
            metrics,
            untold: None,
            writer: None,
        }
    }

    /// Notes what it stores as not told yet.
    #[must_use]
    pub fn noting(mut self, untold: Option<Arc<Untold>>) -> Self {
        self.untold = untold;
        self
    }

    /// Writes every batch that comes, in order, until there are no more.
    pub async fn run(mut self, mut input: mpsc::Receiver<Decoded>, output: mpsc::Sender<Stored>) {
        while let Some(mut batch) = input.recv().await {
            let stored = self.store(&mut batch).await;
            if output.send(stored).await.is_err() {
                break;
            }
        }
    }

    async fn store(&mut self, batch: &mut Decoded) -> Stored {
        self.progress.begin();
        let mut telling = self.begin(batch);
        let mut announce = HashSet::new();
        let mut failures = 0;
        // Ranges still to be written, the next one last.
        let mut todo = Vec::from([Range {
            start: 0,
            end: batch.items.len(),
        }]);
        while let Some(range) = todo.pop() {
            let attempt = self.attempt(batch, range.clone(), &mut announce, &mut telling);
            match attempt.await {
                Ok(()) => failures = 0,
                Err(error) => {
                    let kind = error.kind();
                    self.metrics.write_failed(kind);
                    match kind {
                        Kind::Conflict => {
                            tracing::info!(error = %error, "looking again");
                            self.progress.raced();
                            todo.push(range);
                        }
                        Kind::Data if range.len() > 1 => {
                            let middle = range.start + range.len() / 2;
                            todo.push(middle..range.end);
                            todo.push(range.start..middle);
                        }
                        Kind::Data if condemn(batch, range.start, &error) => todo.push(range),
                        Kind::Data | Kind::Transient => {
                            failures += 1;
                            self.progress.uncertain();
                            self.pause(failures, &error).await;
                            todo.push(range);
                        }
                    }
                }
            }
        }
        stored(batch, &announce, telling)
    }

    fn begin(&self, batch: &Decoded) -> Option<Telling> {
        let partition = |item: &Item| i16::try_from(item.record.partition).ok();
        let partitions = || {
            batch
                .items
                .iter()
                .filter_map(partition)
                .collect::<BTreeSet<_>>()
        };
        self.untold
            .as_ref()
            .map(|untold| untold.begin(partitions()))
    }

    /// One transaction for the items of that range, as far as they are not stored yet.
    async fn attempt(
        &mut self,
        batch: &Decoded,
        range: Range<usize>,
        announce: &mut HashSet<usize>,
        telling: &mut Option<Telling>,
    ) -> Result<(), Error> {
        self.partitions.cover(&batch.periods).await?;
        self.connect().await?;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let first = range.start;
        let items = batch.items.get(range).unwrap_or_default();
        let plan = self.progress.plan(writer, items, first).await?;
        announce.extend(&plan.announce);
        if plan.is_empty() {
            return Ok(());
        }
        let events: Vec<(usize, &Event)> = plan
            .store
            .iter()
            .map(|(_, row, event)| (*row, *event))
            .collect();
        let unnoted = telling
            .as_ref()
            .map(|telling| telling.unnoted(plan.remove.iter().map(|position| position.partition)))
            .unwrap_or_default();
        let started = Instant::now();
        let written = writer
            .write(&Batch {
                rows: &batch.rows,
                events: &events,
                dead_letters: &plan.letters,
                advances: &plan.advances,
                remove: &plan.remove,
                note_announcements: self.progress.notes_announcements(),
                untold: telling.as_ref().map(|telling| telling.note(&unnoted)),
            })
            .await?;
        self.metrics
            .written(started.elapsed(), &events, &written, &plan.letters);
        let stored = written.stored.iter().filter_map(|&at| plan.store.get(at));
        announce.extend(stored.map(|(index, ..)| *index));
        if let Some(telling) = telling {
            telling.noted(written.noted);
        }
        self.progress.written(plan);
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Error> {
        if !self.writer.as_ref().is_some_and(Writer::is_open) {
            self.writer = None;
            let writer = Writer::connect(&self.db).await?;
            if let Some(untold) = &self.untold {
                untold.connected(&writer).await?;
            }
            self.writer = Some(writer);
        }
        Ok(())
    }

    /// Waits 0.1 s, 0.2 s, … at most 5 s.
    async fn pause(&mut self, failures: u32, error: &Error) {
        if error.is_lock_timeout()
            && let Some(writer) = &self.writer
        {
            match store::write::end_frozen(writer.client(), FROZEN).await {
                Ok(0) => {}
                Ok(ended) => {
                    tracing::warn!(ended, "writers that were frozen have lost their locks")
                }
                Err(error) => tracing::debug!(error = %error, "frozen writers not looked for"),
            }
        }
        if self.writer.as_ref().is_some_and(|writer| !writer.is_open()) {
            self.writer = None;
        }
        let pause = Duration::from_millis(100 << failures.saturating_sub(1).min(6))
            .min(Duration::from_secs(5));
        tracing::warn!(error = %error, failures, retry_in_ms = pause.as_millis(), "a batch could not be written yet; nothing is lost, it will be tried again");
        tokio::time::sleep(pause).await;
    }
}

/// Whether two records stand in the same partition.
pub(super) fn same_partition(one: &Item, other: &Item) -> bool {
    let (one, other) = (&one.record, &other.record);
    one.partition == other.partition
        && (Arc::ptr_eq(&one.topic, &other.topic) || one.topic == other.topic)
}

/// Makes a dead letter of an event the database refused. False if it is one already: then only an
/// operator can help.
fn condemn(batch: &mut Decoded, index: usize, error: &Error) -> bool {
    match batch.items.get_mut(index) {
        Some(item) if matches!(item.content, Content::Event(..)) => {
            tracing::warn!(
                topic = &*item.record.topic, partition = item.record.partition,
                offset = item.record.offset, error = %error, "record refused by the database"
            );
            item.condemn("database", &error.to_string());
            true
        }
        _ => false,
    }
}

fn stored(batch: &mut Decoded, announce: &HashSet<usize>, telling: Option<Telling>) -> Stored {
    let mut done: HashMap<Partition, i64> = HashMap::new();
    let items = std::mem::take(&mut batch.items);
    for run in items.chunk_by(same_partition) {
        if let Some(Item { record, .. }) = run.last() {
            done.insert(
                (Arc::clone(&record.topic), record.partition),
                record.offset + 1,
            );
        }
    }
    let mut events = Vec::with_capacity(announce.len());
    for (index, item) in items.into_iter().enumerate() {
        if let Content::Event(event, _) = item.content
            && announce.contains(&index)
        {
            events.push(*event);
        }
    }
    Stored {
        announce: events,
        done: done.into_iter().collect(),
        permits: std::mem::take(&mut batch.permits),
        telling,
    }
}
