//! Publishing: round trip, one acknowledgement per batch, refusals that enqueue nothing.

use eventlog::kafka::{KafkaConfig, Producer, topics};
use eventlog::{Headers, PublishError, Record};
use eventlog::{Publisher as _, Source as _};
use prometheus::Registry;

use crate::support::Seen;
use crate::support::{
    LIMIT, config, consumer, next, numbered, outgoing, producer, topic, wait_until,
};

#[tokio::test]
async fn a_record_comes_out_as_it_went_in() {
    let config = config().await;
    let topic = topic(&config, "round.trip").await;
    let producer = producer(&config).await;
    let mut sent = outgoing(&topic, "stream:1", "{\"a\":1}");
    sent.headers = Headers::from_iter([("subject", "events.x"), ("tenant", "acme"), ("empty", "")]);
    producer
        .publish([sent])
        .expect("enqueued")
        .await
        .expect("acknowledged");

    let (handle, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    let chunk = next(&mut queues[0]).await;
    let [record]: [Record; 1] = chunk.into_parts().0.try_into().expect("one record");
    assert_eq!(record.topic, topic);
    assert_eq!(record.key.as_deref(), Some(&b"stream:1"[..]));
    assert_eq!(record.payload.as_deref(), Some(&b"{\"a\":1}"[..]));
    assert_eq!(record.header("subject"), Some(&b"events.x"[..]));
    assert_eq!(record.header("tenant"), Some(&b"acme"[..]));
    assert_eq!(record.header("empty"), Some(&b""[..]));
    assert_eq!(record.header("absent"), None);
    assert!(record.timestamp_ms.is_some());
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_batch_is_acknowledged_once_and_whole() {
    let config = config().await;
    let topic = topic(&config, "batch").await;
    let producer = producer(&config).await;
    let acks: Vec<_> = (0..20)
        .map(|batch| {
            producer
                .publish(numbered(&topic, batch * 50, 50))
                .expect("enqueued")
        })
        .collect();
    for ack in acks {
        ack.await.expect("acknowledged");
    }
    producer
        .publish([])
        .expect("nothing to do")
        .await
        .expect("nothing went wrong");

    let (handle, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    let mut seen = Seen::default();
    while seen.len() < 1_000 {
        seen.add(next(&mut queues[0]).await.into_parts().0);
    }
    seen.assert_complete(1_000);
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn an_oversize_record_refuses_the_batch_before_anything_is_sent() {
    let config = KafkaConfig {
        max_message_bytes: 10_000,
        ..config().await
    };
    let topic = topic(&config, "oversize").await;
    let producer = producer(&config).await;
    let batch = vec![
        outgoing(&topic, "a", "0"),
        outgoing(&topic, "a", vec![b'x'; 10_001]),
    ];
    assert_eq!(producer.publish(batch).err(), Some(PublishError::TooLarge));
    // The same key, so the same partition: had the small record been sent, it would come first.
    producer
        .publish([outgoing(&topic, "a", "0")])
        .expect("enqueued")
        .await
        .expect("acknowledged");

    let (handle, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    let partition = next(&mut queues[0]).await.partition();
    assert_eq!(
        handle
            .watermarks(&topic, partition)
            .await
            .expect("watermarks"),
        (0, 1)
    );
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_record_the_broker_finds_too_large_is_reported_as_such() {
    let topic_config = KafkaConfig {
        max_message_bytes: 1_000,
        ..config().await
    };
    let topic = topic(&topic_config, "small").await;
    let producer = producer(&KafkaConfig {
        max_message_bytes: 1 << 20,
        ..topic_config
    })
    .await;
    // Random enough not to shrink below the limit when compressed.
    let payload: Vec<u8> = (0..400)
        .flat_map(|_| uuid::Uuid::new_v4().into_bytes())
        .collect();
    let ack = producer
        .publish([outgoing(&topic, "a", payload)])
        .expect("enqueued");
    assert_eq!(ack.await, Err(PublishError::TooLarge));
}

#[tokio::test]
async fn a_full_queue_refuses_the_whole_batch_and_recovers() {
    let config = KafkaConfig {
        queue_max_messages: 100,
        linger_ms: 2_000.0,
        ..config().await
    };
    let topic = topic(&config, "full").await;
    let producer = producer(&config).await;
    let first = producer
        .publish(numbered(&topic, 0, 80))
        .expect("room for 80");
    assert_eq!(
        producer.publish(numbered(&topic, 80, 21)).err(),
        Some(PublishError::Full)
    );
    let second = producer
        .publish(numbered(&topic, 80, 20))
        .expect("room for 20 more");
    first.await.expect("acknowledged");
    second.await.expect("acknowledged");
    producer
        .publish(numbered(&topic, 100, 100))
        .expect("empty")
        .await
        .expect("acknowledged");

    let (handle, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    let mut seen = Seen::default();
    while seen.len() < 200 {
        seen.add(next(&mut queues[0]).await.into_parts().0);
    }
    seen.assert_complete(200);
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_too() {
    let config = KafkaConfig {
        queue_max_bytes: 10_000,
        linger_ms: 2_000.0,
        ..config().await
    };
    let topic = topic(&config, "bytes").await;
    let producer = producer(&config).await;
    let large = || [outgoing(&topic, "a", vec![b'x'; 6_000])];
    let first = producer.publish(large()).expect("room for one");
    assert_eq!(producer.publish(large()).err(), Some(PublishError::Full));
    first.await.expect("acknowledged");
    producer
        .publish(large())
        .expect("room again")
        .await
        .expect("acknowledged");
}

#[tokio::test]
async fn flush_waits_for_everything_in_flight_and_metrics_tell() {
    let config = KafkaConfig {
        linger_ms: 2_000.0,
        ..config().await
    };
    let topic = topic(&config, "flush").await;
    let registry = Registry::new();
    let producer = Producer::new(&config, &registry).expect("producer");
    wait_until("the producer connects", || producer.connected()).await;
    let ack = producer.publish(numbered(&topic, 0, 10)).expect("enqueued");
    assert_eq!(gauge(&registry, "eventlog_publish_in_flight_records"), 10.0);
    producer.flush(LIMIT).await.expect("flushed");
    assert_eq!(gauge(&registry, "eventlog_publish_in_flight_records"), 0.0);
    assert_eq!(gauge(&registry, "eventlog_publish_in_flight_bytes"), 0.0);
    ack.await.expect("acknowledged");
}

#[tokio::test]
async fn a_low_latency_producer_lingers_only_under_load() {
    let config = KafkaConfig {
        linger_ms: 200_000.0,
        message_timeout_ms: 250_000,
        ..config().await
    };
    let topic = topic(&config, "low_latency").await;
    let registry = Registry::new();
    let producer = Producer::low_latency(&config, &registry).expect("producer");
    wait_until("the producer connects", || producer.connected()).await;
    // Longer than the limit of this test, were it not sent at once; and a batch as well.
    for records in [1, 50] {
        let ack = producer.publish(numbered(&topic, 0, records));
        let ack = tokio::time::timeout(LIMIT, ack.expect("enqueued")).await;
        ack.expect("at once").expect("acknowledged");
    }
    let in_flight = || gauge(&registry, "eventlog_publish_in_flight_records");
    let mut acks: Vec<_> = (0..100)
        .map(|n| producer.publish(numbered(&topic, n, 1)).expect("enqueued"))
        .collect();
    // The first few found nobody before them; the others wait for more to come.
    acks.remove(0).await.expect("acknowledged");
    assert!(in_flight() > 50.0, "{}", in_flight());
}

fn gauge(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families
        .iter()
        .find(|family| family.name() == name)
        .expect("metric");
    family.get_metric()[0].get_gauge().get_value()
}

#[tokio::test]
async fn without_kafka_publishing_answers_at_once() {
    let config = KafkaConfig {
        brokers: "127.0.0.1:1".to_owned(),
        ..config().await
    };
    let producer = Producer::new(&config, &Registry::new()).expect("producer");
    assert!(!producer.connected());
    let record = outgoing(&config.topic("x"), "a", "0");
    assert_eq!(
        producer.publish([record]).err(),
        Some(PublishError::Unavailable)
    );
    let spec = topics::TopicSpec::new(&config, "x");
    let ensured = topics::ensure(&config, &[spec], std::time::Duration::from_millis(300)).await;
    assert!(
        matches!(ensured, Err(topics::EnsureError::Timeout { .. })),
        "{ensured:?}"
    );
}

#[tokio::test]
async fn ensuring_topics_twice_keeps_them_and_bad_ones_are_refused() {
    let config = config().await;
    let name = topic(&config, "twice").await;
    let more = KafkaConfig {
        partitions: 9,
        ..config.clone()
    };
    assert_eq!(topic(&more, "twice").await, name);
    let (handle, queues) = consumer(&config, &name, 1, 1 << 20);
    wait_until("four partitions", || handle.assigned().len() == 4).await;
    handle.shutdown(LIMIT).await;
    drop(queues);

    let bad = topics::TopicSpec::new(&config, "not a topic name");
    let refused = topics::ensure(&config, &[bad], LIMIT).await;
    assert!(
        matches!(refused, Err(topics::EnsureError::Refused { .. })),
        "{refused:?}"
    );
}
