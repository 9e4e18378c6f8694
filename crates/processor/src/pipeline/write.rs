//! Writes a batch until it is written: waits where waiting helps, looks again where another
//! consumer was faster, and splits the batch down to the one record that the database refuses.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::Event;
use eventlog::kafka::{Handle, Permit};
use store::offsets::{self, Advance};
use store::write::{Batch, Writer};
use store::{Database, Error, Kind, events};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::decode::{Content, Decoded, Item};
use super::partitions::Partitions;
use crate::metrics::Metrics;

/// A partition of a topic.
type Partition = (Arc<str>, i32);

/// A batch that is in the database.
#[derive(Debug)]
pub struct Stored {
    /// The events to announce: those stored now, and those a crash may have left unannounced.
    pub announce: Vec<Event>,
    /// Up to where each partition is done, once they are announced.
    pub done: Vec<(Partition, i64)>,
    /// The batch's share of the buffer.
    pub permits: Vec<Permit>,
}

/// The writing stage of one line.
pub struct WriteStage {
    db: Database,
    consumer: Handle,
    partitions: Partitions,
    metrics: Arc<Metrics>,
    writer: Option<Writer>,
    /// The next offset of each partition as PostgreSQL has it. May be out of date: the fence tells.
    positions: HashMap<Partition, i64>,
}

impl WriteStage {
    /// A stage that will connect with its first batch.
    #[must_use]
    pub fn new(
        db: Database,
        consumer: Handle,
        partitions: Partitions,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            db,
            consumer,
            partitions,
            metrics,
            writer: None,
            positions: HashMap::new(),
        }
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
        let mut announce = HashSet::new();
        let mut failures = 0;
        // Ranges still to be written, the next one last.
        let mut todo = Vec::from([Range {
            start: 0,
            end: batch.items.len(),
        }]);
        while let Some(range) = todo.pop() {
            match self.attempt(batch, range.clone(), &mut announce).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    let kind = error.kind();
                    self.metrics.write_failed(kind);
                    match kind {
                        Kind::Raced => {
                            tracing::info!(error = %error, "looking again");
                            self.positions.clear();
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
                            self.pause(failures, &error).await;
                            todo.push(range);
                        }
                    }
                }
            }
        }
        stored(batch, &announce)
    }

    /// One transaction for the items of that range, as far as they are not stored yet.
    async fn attempt(
        &mut self,
        batch: &Decoded,
        range: Range<usize>,
        announce: &mut HashSet<usize>,
    ) -> Result<(), Error> {
        self.partitions.cover(&batch.periods).await?;
        self.connect().await?;
        self.find_positions(batch, range.clone()).await?;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };

        let mut advances: BTreeMap<(&str, i32), Advance> = BTreeMap::new();
        let (mut to_store, mut letters, mut seen_before) = (vec![], vec![], vec![]);
        for index in range {
            let Some(item) = batch.items.get(index) else {
                continue;
            };
            let record = &item.record;
            let position = position(&self.positions, item);
            match &item.content {
                Content::Event(event, row) if record.offset < position => {
                    seen_before.push((index, *row, event.as_ref()));
                }
                Content::Dead(_) if record.offset < position => {}
                Content::Event(event, row) => {
                    to_store.push((index, *row, event.as_ref()));
                }
                Content::Dead(letter) => letters.push(letter.as_ref()),
            }
            if record.offset >= position {
                advances
                    .entry((&record.topic, record.partition))
                    .or_insert_with(|| Advance {
                        topic: record.topic.to_string(),
                        partition: record.partition,
                        from: position,
                        to: position,
                    })
                    .to = record.offset + 1;
            }
        }
        if !seen_before.is_empty() {
            let ids: Vec<Uuid> = seen_before
                .iter()
                .map(|(_, _, event)| event.event_id)
                .collect();
            let known = events::stored(writer.client(), &ids).await?;
            for (index, row, event) in seen_before {
                if known.contains(&event.event_id) {
                    announce.insert(index);
                } else {
                    // Below the offset, yet never stored: the topic was made anew and has outgrown
                    // the old one meanwhile. (Or the database refused it, and will do so again.)
                    to_store.push((index, row, event));
                }
            }
            to_store.sort_unstable_by_key(|(index, ..)| *index);
        }
        if advances.is_empty() && to_store.is_empty() {
            return Ok(());
        }
        let places: Vec<usize> = to_store.iter().map(|(index, ..)| *index).collect();
        let events: Vec<(usize, &Event)> = to_store
            .iter()
            .map(|(_, row, event)| (*row, *event))
            .collect();
        let advances: Vec<Advance> = advances.into_values().collect();
        let started = Instant::now();
        let written = writer
            .write(&Batch {
                rows: &batch.rows,
                events: &events,
                dead_letters: &letters,
                advances: &advances,
            })
            .await?;
        self.metrics
            .written(started.elapsed(), &events, &written, &letters);
        announce.extend(
            written
                .stored
                .iter()
                .filter_map(|&at| places.get(at).copied()),
        );
        for advance in advances {
            self.positions
                .insert((advance.topic.into(), advance.partition), advance.to);
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Error> {
        if !self.writer.as_ref().is_some_and(Writer::is_open) {
            self.writer = None;
            self.writer = Some(Writer::connect(&self.db).await?);
        }
        Ok(())
    }

    /// Learns where the partitions of these items stand, as far as it is not known or in doubt.
    async fn find_positions(&mut self, batch: &Decoded, range: Range<usize>) -> Result<(), Error> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let mut looked = HashSet::new();
        for item in batch.items.get(range).unwrap_or_default() {
            let record = &item.record;
            let partition = (Arc::clone(&record.topic), record.partition);
            // A record below the known position is one that is delivered again, or one of a topic
            // that was made anew while we were reading it.
            let expected = self
                .positions
                .get(&partition)
                .is_some_and(|next| *next <= record.offset);
            if expected || !looked.insert(partition.clone()) {
                continue;
            }
            let (topic, number) = (&record.topic, record.partition);
            let mut next = offsets::open(writer.client(), topic, number, record.offset).await?;
            if next > record.offset && self.is_beyond_the_end(topic, number, next).await {
                // The topic was deleted and made again, or the log lost its tail: what it has now
                // is new. Events it shares with the old one are caught by their ids.
                tracing::error!(
                    topic = &**topic,
                    partition = number,
                    stored_offset = next,
                    "the stored offset lies beyond the end of the log; starting over from its records"
                );
                if !offsets::reset(writer.client(), topic, number, next, record.offset).await? {
                    return Err(Error::Fenced {
                        topic: topic.to_string(),
                        partition: number,
                        expected: next,
                    });
                }
                next = record.offset;
            }
            self.positions.insert(partition, next);
        }
        Ok(())
    }

    async fn is_beyond_the_end(&self, topic: &str, partition: i32, next: i64) -> bool {
        match self.consumer.watermarks(topic, partition).await {
            Ok((_, end)) => next > end,
            Err(error) => {
                tracing::warn!(topic, partition, error = %error, "the end of the log is unknown");
                false
            }
        }
    }

    /// Waits 0.1 s, 0.2 s, … at most 5 s.
    async fn pause(&mut self, failures: u32, error: &Error) {
        if self.writer.as_ref().is_some_and(|writer| !writer.is_open()) {
            self.writer = None;
        }
        let pause = Duration::from_millis(100 << failures.saturating_sub(1).min(6))
            .min(Duration::from_secs(5));
        tracing::warn!(error = %error, failures, retry_in_ms = pause.as_millis(), "a batch could not be written yet; nothing is lost, it will be tried again");
        tokio::time::sleep(pause).await;
    }
}

fn position(positions: &HashMap<Partition, i64>, item: &Item) -> i64 {
    let partition = (Arc::clone(&item.record.topic), item.record.partition);
    positions
        .get(&partition)
        .copied()
        .unwrap_or(item.record.offset)
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

fn stored(batch: &mut Decoded, announce: &HashSet<usize>) -> Stored {
    let mut done: HashMap<Partition, i64> = HashMap::new();
    let mut events = Vec::with_capacity(announce.len());
    for (index, item) in std::mem::take(&mut batch.items).into_iter().enumerate() {
        done.insert(
            (item.record.topic, item.record.partition),
            item.record.offset + 1,
        );
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
    }
}
