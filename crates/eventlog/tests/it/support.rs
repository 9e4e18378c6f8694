//! What the tests share: settings with fresh names, records, and reading a number of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::Publisher as _;
use eventlog::kafka::{
    Chunk, Consumer, Handle, KafkaConfig, Producer, TopicSpec, WorkerQueue, topics,
};
use eventlog::{Headers, Outgoing, Record};
use prometheus::Registry;
use testkit::Parts;

/// Fails a test that hangs; no test depends on how long anything takes below it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn config() -> KafkaConfig {
    config_for(&Parts::shared().await.kafka_brokers)
}

pub(crate) fn config_for(brokers: &str) -> KafkaConfig {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    KafkaConfig {
        brokers: brokers.to_owned(),
        topic_prefix: format!("t{unique}."),
        partitions: 4,
        group_id: format!("g{unique}"),
        session_timeout_ms: 6_000,
        // A machine that stands still for a moment is no outage.
        message_timeout_ms: 20_000,
        ..KafkaConfig::default()
    }
}

pub(crate) async fn topic(config: &KafkaConfig, name: &str) -> Arc<str> {
    let spec = TopicSpec::new(config, name);
    topics::ensure(config, std::slice::from_ref(&spec), LIMIT)
        .await
        .expect("topic");
    spec.name
}

pub(crate) async fn producer(config: &KafkaConfig) -> Producer {
    let producer = Producer::new(config, &Registry::new()).expect("producer");
    wait_until("the producer connects", || producer.connected()).await;
    producer
}

pub(crate) fn consumer(
    config: &KafkaConfig,
    topic: &Arc<str>,
    workers: usize,
    bytes: usize,
) -> (Handle, Vec<WorkerQueue>) {
    Consumer::start(config, std::slice::from_ref(topic), workers, bytes).expect("consumer")
}

pub(crate) fn outgoing(topic: &Arc<str>, key: &str, payload: impl Into<Vec<u8>>) -> Outgoing {
    Outgoing {
        topic: Arc::clone(topic),
        key: key.as_bytes().to_vec(),
        headers: Headers::default(),
        payload: payload.into().into(),
    }
}

/// Records `first..first + count`, each with its number as payload, over 64 keys.
pub(crate) fn numbered(topic: &Arc<str>, first: usize, count: usize) -> Vec<Outgoing> {
    (first..first + count)
        .map(|n| outgoing(topic, &format!("k{}", n % 64), n.to_string()))
        .collect()
}

pub(crate) fn number(record: &Record) -> usize {
    let payload = record.payload.as_deref().expect("payload");
    std::str::from_utf8(payload)
        .expect("text")
        .parse()
        .expect("number")
}

pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, poll)
        .await
        .unwrap_or_else(|_| panic!("waited too long: {what}"));
}

pub(crate) async fn next(queue: &mut WorkerQueue) -> Chunk {
    tokio::time::timeout(LIMIT, queue.recv())
        .await
        .expect("a chunk in time")
        .expect("an open queue")
}

/// What came out, by partition, in order of arrival.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) by_partition: BTreeMap<i32, Vec<Record>>,
}

impl Seen {
    pub(crate) fn add(&mut self, records: Vec<Record>) {
        for record in records {
            self.by_partition
                .entry(record.partition)
                .or_default()
                .push(record);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_partition.values().map(Vec::len).sum()
    }

    /// Offsets without gap or repetition in every partition, and every number exactly once.
    pub(crate) fn assert_complete(&self, count: usize) {
        for (partition, records) in &self.by_partition {
            let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
            let expected: Vec<_> = (0..records.len() as i64).collect();
            assert_eq!(offsets, expected, "partition {partition}");
        }
        let mut numbers: Vec<_> = self.by_partition.values().flatten().map(number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    }
}
