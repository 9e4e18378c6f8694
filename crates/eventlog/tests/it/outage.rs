//! Kafka killed and started again under a producer and a consumer.

use std::time::Duration;

use eventlog::PublishError;
use eventlog::kafka::KafkaConfig;
use eventlog::{Publisher as _, Source as _};
use testkit::{Part, Parts, eventually};

use crate::support::{
    LIMIT, Seen, config_for, consumer, next, numbered, producer, topic, wait_until,
};

#[tokio::test]
async fn a_killed_kafka_is_unavailable_at_once_and_back_with_everything_acknowledged() {
    let parts = Parts::private_of(&[Part::Kafka]).await;
    let config = KafkaConfig {
        message_timeout_ms: 20_000,
        // The member stays in its group while Kafka restarts, or records would come again.
        session_timeout_ms: 60_000,
        ..config_for(&parts.kafka_brokers)
    };
    let topic = topic(&config, "outage").await;
    let producer = producer(&config).await;
    let (handle, mut queues) = consumer(&config, &topic, 1, 8 << 20);
    wait_until("the assignment", || handle.assigned().len() == 4).await;
    producer
        .publish(numbered(&topic, 0, 100))
        .expect("enqueued")
        .await
        .expect("acknowledged");

    parts.kill(Part::Kafka).await;
    wait_until("the producer notices", || !producer.connected()).await;
    wait_until("the consumer notices", || !handle.connected()).await;
    assert_eq!(
        producer.publish(numbered(&topic, 100, 1)).err(),
        Some(PublishError::Unavailable),
        "refused without being queued",
    );
    assert!(
        handle.healthy(),
        "an outage is no defect: {:?}",
        handle.problem()
    );

    parts.start(Part::Kafka).await;
    wait_until("the producer is back", || producer.connected()).await;
    // The broker may still be sorting itself out; nothing was written while it refused.
    eventually("publishing works again", LIMIT, || async {
        producer.publish(numbered(&topic, 100, 1))?.await
    })
    .await;
    let mut seen = Seen::default();
    while seen.len() < 101 {
        let chunk = next(&mut queues[0]).await;
        let end = chunk.records.last().expect("records").offset + 1;
        handle.mark_done(chunk.topic(), chunk.partition(), end);
        seen.add(chunk.into_parts().0);
    }
    seen.assert_complete(101);
    wait_until("the consumer is back", || handle.connected()).await;
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn records_in_flight_when_kafka_dies_fail_and_shutdown_does_not_hang() {
    let parts = Parts::private_of(&[Part::Kafka]).await;
    let config = KafkaConfig {
        message_timeout_ms: 2_000,
        ..config_for(&parts.kafka_brokers)
    };
    let topic = topic(&config, "in.flight").await;
    let producer = producer(&config).await;
    let (handle, _queues) = consumer(&config, &topic, 1, 8 << 20);
    wait_until("the assignment", || handle.assigned().len() == 4).await;

    // Nobody answers them before the broker is gone.
    let paused = parts.pause(Part::Kafka).await;
    let ack = producer.publish(numbered(&topic, 0, 10)).expect("enqueued");
    parts.kill(Part::Kafka).await;
    drop(paused);
    let failed = tokio::time::timeout(LIMIT, ack).await.expect("an answer");
    assert_eq!(failed, Err(PublishError::Unavailable));
    producer
        .flush(LIMIT)
        .await
        .expect("nothing is left in flight");
    tokio::time::timeout(LIMIT, handle.shutdown(Duration::ZERO))
        .await
        .expect("closes");
}
