//! Other clients on the same topics: kcat writes what it likes and reads what we wrote.

use eventlog::Headers;
use eventlog::Source as _;
use eventlog::kafka::KafkaConfig;
use testkit::Kcat;

use crate::support::{LIMIT, config, consumer, next, outgoing, producer, topic};

#[tokio::test]
async fn whatever_bytes_a_stranger_sends_come_through() {
    let config = KafkaConfig {
        partitions: 1,
        ..config().await
    };
    let topic = topic(&config, "strange").await;
    let kcat = Kcat::new(&config.brokers);
    let (handle, mut queues) = consumer(&config, &topic, 1, 1 << 20);
    kcat.produce(&topic, None, &[], b"\xff\xfe\x00binary")
        .await
        .expect("kcat");
    kcat.produce(&topic, Some(b"\xf0\x28"), &[(b"value", b"\xff")], b"x")
        .await
        .expect("kcat");
    kcat.produce(&topic, None, &[(b"na\xffme", b"value")], b"y")
        .await
        .expect("kcat");

    let mut records = Vec::new();
    while records.len() < 3 {
        records.extend(next(&mut queues[0]).await.into_parts().0);
    }
    assert_eq!(
        records[0].payload.as_deref(),
        Some(&b"\xff\xfe\x00binary"[..])
    );
    assert_eq!((&records[0].key, records[0].headers.len()), (&None, 0));
    assert_eq!(records[1].key.as_deref(), Some(&b"\xf0\x28"[..]));
    assert_eq!(records[1].header("value"), Some(&b"\xff"[..]));
    assert_eq!(
        records[2].headers,
        [("na\u{fffd}me".to_owned(), b"value".to_vec())]
    );
    assert!(handle.healthy(), "{:?}", handle.problem());
    handle.shutdown(LIMIT).await;
}

#[tokio::test]
async fn another_client_reads_what_we_wrote() {
    let config = config().await;
    let topic = topic(&config, "read").await;
    let mut record = outgoing(&topic, "user:1", "{\"a\":1}");
    record.headers = Headers::from_iter([("subject", "events.x"), ("tenant", "acme")]);
    let producer = producer(&config).await;
    producer
        .publish([record])
        .expect("enqueued")
        .await
        .expect("acknowledged");
    let read = Kcat::new(&config.brokers)
        .consume(&topic)
        .await
        .expect("kcat");
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].key.as_deref(), Some("user:1"));
    assert_eq!(read[0].payload.as_deref(), Some("{\"a\":1}"));
    let headers: Vec<_> = read[0]
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(headers, [("subject", "events.x"), ("tenant", "acme")]);
}
