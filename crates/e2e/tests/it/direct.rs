//! Records for the log where kcat does not reach: chosen partitions, sizes of megabytes, a million.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use rdkafka::producer::{DefaultProducerContext, ThreadedProducer};
use rdkafka::util::Timeout;

use crate::SHAPE;
use crate::log::{append, append_unnoted};
use crate::world::{PATIENCE, Shape, World};

/// A record with its partition; no payload is a tombstone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
}

impl Record {
    pub(crate) fn new(partition: i32, key: &str, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            partition,
            key: Some(key.as_bytes().to_vec()),
            payload: Some(payload.into()),
            headers: vec![],
        }
    }
}

fn config(world: &World) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &world.parts.kafka_brokers)
        .set("message.max.bytes", "8388608")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5");
    config
}

/// Sends them in order and returns the offset of each.
pub(crate) async fn produce(world: &World, topic: &str, records: &[Record]) -> Vec<i64> {
    if SHAPE == Shape::AllInOne {
        return append(world, topic, records).await.unwrap();
    }
    let producer: FutureProducer = config(world).create().unwrap();
    let topic = world.topic(topic);
    let mut waiting: Vec<DeliveryFuture> = Vec::with_capacity(records.len());
    for record in records {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(rdkafka::message::Header {
                key,
                value: Some(value),
            });
        }
        let mut outgoing: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&topic)
            .partition(record.partition)
            .headers(headers);
        outgoing.key = record.key.as_deref();
        outgoing.payload = record.payload.as_deref();
        waiting.push(
            producer
                .send_result(outgoing)
                .map_err(|(error, _)| error)
                .expect("room for the record"),
        );
    }
    let mut offsets = Vec::with_capacity(records.len());
    for delivery in waiting {
        let delivery = delivery.await.expect("a delivery report");
        offsets.push(
            delivery
                .map_err(|(error, _)| error)
                .expect("delivered")
                .offset,
        );
    }
    offsets
}

/// Sends many keyed records as fast as the log takes them; the caller checks that all arrived.
pub(crate) fn flood(
    world: &World,
    topic: &str,
    mut records: impl Iterator<Item = (String, String)>,
) {
    if SHAPE == Shape::AllInOne {
        let topic = world.topic(topic);
        let record = |(key, payload): (String, String)| {
            let partition = store::log::partition_of(key.as_bytes());
            Record::new(i32::from(partition), &key, payload)
        };
        loop {
            let some: Vec<Record> = records.by_ref().take(5_000).map(record).collect();
            if some.is_empty() {
                return;
            }
            let appending = append_unnoted(world, &topic, &some);
            tokio::runtime::Handle::current()
                .block_on(appending)
                .unwrap();
        }
    }
    let producer: ThreadedProducer<DefaultProducerContext> = config(world)
        .set("compression.type", "lz4")
        .set("linger.ms", "20")
        .set("queue.buffering.max.kbytes", "65536")
        .create()
        .unwrap();
    let topic = world.topic(topic);
    for (key, payload) in records {
        let mut record = BaseRecord::to(&topic).key(&key).payload(&payload);
        loop {
            record = match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    std::thread::sleep(Duration::from_millis(5));
                    back
                }
                Err((error, _)) => panic!("{error}"),
            };
        }
    }
    producer.flush(Timeout::After(PATIENCE)).unwrap();
}

/// A client that makes and changes topics.
pub(crate) fn admin(world: &World) -> AdminClient<DefaultClientContext> {
    config(world).create().unwrap()
}

/// Deletes a topic.
pub(crate) async fn delete_topic(world: &World, topic: &str) {
    let topic = world.topic(topic);
    let deleted = admin(world)
        .delete_topics(&[&topic], &AdminOptions::new())
        .await
        .unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

/// Creates a topic, again and again while its deleted namesake is still on its way out.
pub(crate) async fn create_topic(world: &World, topic: &str, partitions: i32) {
    let topic = world.topic(topic);
    testkit::eventually("the topic is created", PATIENCE, || async {
        let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1))
            .set("max.message.bytes", "8388608");
        let created = admin(world)
            .create_topics([&new], &AdminOptions::new())
            .await
            .map_err(|error| error.to_string())?;
        match &created[..] {
            [Ok(_)] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
