//! Both logs behind one fixture, and what "done" means to each: the fence that makes a record stored
//! once, whoever is given it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eventlog::kafka::{Consumer, KafkaConfig, Producer};
use eventlog::postgres::{PostgresLog, PostgresLogConfig, PostgresSource};
use eventlog::{Chunk, Publisher, Record, Source, WorkerQueue};
use prometheus::Registry;
use store::log::{LOG, LogPosition};
use store::write::{Advance, Batch, Writer, positions};
use store::{DatabaseConfig, Kind, migrate};
use testkit::{Part, Parts};

use crate::support::{config_for, topic, wait_until};

/// What a publisher may hold.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) record_bytes: usize,
    pub(crate) queue_records: usize,
    pub(crate) queue_bytes: usize,
    /// How long Kafka's records wait for company, so that what is published in one go is in flight
    /// at the same time.
    pub(crate) linger_ms: f64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            record_bytes: 8 << 20,
            queue_records: 100_000,
            queue_bytes: 64 << 20,
            linger_ms: 50.0,
        }
    }
}

/// An event log of a test's own.
pub(crate) trait Log: Send + Sync + Sized + 'static {
    /// The part it lives in.
    const PART: Part;
    /// Into how many parts it divides a topic.
    const PARTITIONS: usize;

    /// An empty log in these parts.
    fn new(parts: &Parts) -> impl Future<Output = Self> + Send;
    /// The topic to publish to.
    fn topic(&self) -> Arc<str>;
    /// A publisher that need not be connected yet.
    fn publisher_now(&self, bounds: Bounds) -> Arc<dyn Publisher>;
    /// A publisher of a log that is not there.
    fn nowhere() -> Arc<dyn Publisher>;
    /// A consumer.
    fn consume(&self, workers: usize, bytes: usize) -> (Arc<dyn Source>, Vec<WorkerQueue>);
    /// Stores a chunk and marks it done; returns the records nobody had stored before.
    fn store(
        &self,
        source: &Arc<dyn Source>,
        chunk: Chunk,
    ) -> impl Future<Output = Vec<Record>> + Send;

    fn publisher(&self, bounds: Bounds) -> impl Future<Output = Arc<dyn Publisher>> + Send {
        async move {
            let publisher = self.publisher_now(bounds);
            wait_until("the publisher connects", || publisher.connected()).await;
            publisher
        }
    }
}

pub(crate) struct Kafka {
    config: KafkaConfig,
    topic: Arc<str>,
    /// What `log_positions` is to the processor.
    stored: Mutex<HashMap<(Arc<str>, i32), i64>>,
}

impl Log for Kafka {
    const PART: Part = Part::Kafka;
    const PARTITIONS: usize = 4;

    async fn new(parts: &Parts) -> Self {
        let config = config_for(&parts.kafka_brokers);
        let topic = topic(&config, "conformance").await;
        Self {
            config,
            topic,
            stored: Mutex::default(),
        }
    }

    fn topic(&self) -> Arc<str> {
        Arc::clone(&self.topic)
    }

    fn publisher_now(&self, bounds: Bounds) -> Arc<dyn Publisher> {
        let config = KafkaConfig {
            max_message_bytes: bounds.record_bytes,
            queue_max_messages: bounds.queue_records,
            queue_max_bytes: bounds.queue_bytes,
            linger_ms: bounds.linger_ms,
            ..self.config.clone()
        };
        Arc::new(Producer::new(&config, &Registry::new()).expect("producer"))
    }

    fn nowhere() -> Arc<dyn Publisher> {
        let config = config_for("127.0.0.1:1");
        Arc::new(Producer::new(&config, &Registry::new()).expect("producer"))
    }

    fn consume(&self, workers: usize, bytes: usize) -> (Arc<dyn Source>, Vec<WorkerQueue>) {
        let (handle, queues) =
            Consumer::start(&self.config, &[self.topic()], workers, bytes).expect("consumer");
        (Arc::new(handle), queues)
    }

    async fn store(&self, source: &Arc<dyn Source>, chunk: Chunk) -> Vec<Record> {
        let partition = (Arc::clone(chunk.topic()), chunk.partition());
        let (records, permit) = chunk.into_parts();
        let end = records.last().expect("a record").offset + 1;
        let new = {
            let mut stored = self.stored.lock().expect("no panic");
            let next = stored.entry(partition.clone()).or_default();
            let new = records.into_iter().filter(|r| r.offset >= *next).collect();
            *next = end.max(*next);
            new
        };
        source.mark_done(&partition.0, partition.1, end);
        drop(permit);
        new
    }
}

pub(crate) struct Postgres {
    pub(crate) db: store::Database,
    /// Dropped at the end, with the database.
    pub(crate) fresh: testkit::Database,
    /// Everything stored, in the order of the commits.
    pub(crate) journal: Mutex<Vec<LogPosition>>,
    writer: tokio::sync::Mutex<Option<Writer>>,
    /// Where the partitions stand, as far as is known.
    known: Mutex<HashMap<i32, i64>>,
}

pub(crate) fn database(url: &str) -> store::Database {
    store::Database::new(&DatabaseConfig {
        url: url.to_owned(),
        schema: "event".to_owned(),
        pool_size: 4,
        verify_tls: false,
        application_name: "eventlog tests".to_owned(),
    })
    .expect("a database")
}

/// The outcome of one attempt to store a chunk.
enum Attempt {
    /// These records are stored now.
    Stored(Vec<Record>),
    /// The records belong to another consumer, or are read again.
    Dropped,
    /// The database went away, perhaps after the commit.
    Uncertain,
}

impl Postgres {
    /// One storing transaction.
    async fn attempt(
        &self,
        source: &dyn Source,
        partition: i32,
        records: &[Record],
        uncertain: bool,
    ) -> Attempt {
        let mut writer = self.writer.lock().await;
        if !writer.as_ref().is_some_and(Writer::is_open) {
            *writer = Writer::connect(&self.db).await.ok();
        }
        let Some(writer) = writer.as_mut() else {
            return Attempt::Uncertain;
        };
        let known = self.known.lock().expect("no panic").remove(&partition);
        let stored = match known {
            Some(stored) => stored,
            None => match positions::next(writer.client(), LOG, partition).await {
                Ok(stored) => stored.unwrap_or(0),
                Err(_) => return Attempt::Uncertain,
            },
        };
        let end = records.last().expect("a record").offset + 1;
        if uncertain && stored >= end {
            // They went with the transaction whose end we did not hear of: in these tests no other
            // consumer stores them.
            return Attempt::Stored(records.to_vec());
        }
        let new: Vec<Record> = records
            .iter()
            .filter(|record| record.offset >= stored)
            .cloned()
            .collect();
        if new.is_empty() {
            return Attempt::Dropped;
        }
        let written = writer
            .write(&Batch {
                matched: None,
                events: &[],
                dead_letters: &[],
                advances: &[Advance {
                    topic: LOG.to_owned(),
                    partition,
                    from: stored,
                    to: end,
                    records: i64::try_from(new.len()).expect("few"),
                    live: None,
                }],
                owner: source.delivery().map(|delivery| delivery.owner()),
                announce: store::outbox::Announce::nowhere(),
                refuse: &|_, reason, detail| panic!("{reason}: {detail}"),
            })
            .await
            .map(drop);
        match written {
            Ok(()) => {
                self.known.lock().expect("no panic").insert(partition, end);
                let position = |record: &Record| LogPosition {
                    partition: i16::try_from(record.partition).expect("a partition"),
                    offset: record.offset,
                };
                let mut journal = self.journal.lock().expect("no panic");
                journal.extend(new.iter().map(position));
                Attempt::Stored(new)
            }
            Err(error) if error.kind() == Kind::Conflict => {
                source.seek(LOG, partition, stored);
                Attempt::Dropped
            }
            Err(_) => Attempt::Uncertain,
        }
    }
}

impl Log for Postgres {
    const PART: Part = Part::Postgres;
    const PARTITIONS: usize = 16;

    async fn new(parts: &Parts) -> Self {
        let fresh = parts.fresh_database().await;
        let db = database(&fresh.url);
        migrate::run(&db).await.expect("migrated");
        Self {
            db,
            fresh,
            journal: Mutex::default(),
            writer: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        }
    }

    fn topic(&self) -> Arc<str> {
        "events.conformance".into()
    }

    fn publisher_now(&self, bounds: Bounds) -> Arc<dyn Publisher> {
        let config = PostgresLogConfig {
            max_message_bytes: bounds.record_bytes,
            queue_max_messages: bounds.queue_records,
            queue_max_bytes: bounds.queue_bytes,
            ..PostgresLogConfig::default()
        };
        Arc::new(PostgresLog::new(&self.db, config, &Registry::new()).expect("publisher"))
    }

    fn nowhere() -> Arc<dyn Publisher> {
        let db = database("postgresql://nobody@127.0.0.1:1/nothing");
        let config = PostgresLogConfig::default();
        Arc::new(PostgresLog::new(&db, config, &Registry::new()).expect("publisher"))
    }

    fn consume(&self, workers: usize, bytes: usize) -> (Arc<dyn Source>, Vec<WorkerQueue>) {
        let (handle, queues) = PostgresSource::start(&self.db, workers, bytes, false);
        (Arc::new(handle), queues)
    }

    async fn store(&self, source: &Arc<dyn Source>, chunk: Chunk) -> Vec<Record> {
        let (topic, partition) = (Arc::clone(chunk.topic()), chunk.partition());
        let (records, permit) = chunk.into_parts();
        let mut uncertain = false;
        let stored = loop {
            match self
                .attempt(&**source, partition, &records, uncertain)
                .await
            {
                Attempt::Stored(stored) => break stored,
                Attempt::Dropped => return Vec::new(),
                Attempt::Uncertain => {
                    uncertain = true;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        let end = stored.last().expect("a record").offset + 1;
        source.mark_done(&topic, partition, end);
        drop(permit);
        stored
    }
}
