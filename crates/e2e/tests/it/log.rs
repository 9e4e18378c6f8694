//! Putting records on the event log, past the gateway: on Kafka, or on the log in PostgreSQL.

use testkit::Message;

use crate::direct::Record;
use crate::ledger::Place;
use crate::world::{Shape, World};
use crate::{SHAPE, direct};

impl World {
    /// Sends lines with their keys and waits for the acknowledgement: by kcat, a foreign client,
    /// or as a stranger to the gateway appends to the table.
    pub(crate) async fn send_lines<K, P>(
        &self,
        topic: &str,
        lines: Vec<(K, P)>,
    ) -> anyhow::Result<()>
    where
        K: AsRef<str>,
        P: AsRef<str>,
    {
        let full = self.topic(topic);
        if SHAPE == Shape::Split {
            return self.kcat.produce_lines(&full, lines).await;
        }
        let record = |(key, payload): &(K, P)| {
            let (key, payload) = (key.as_ref(), payload.as_ref());
            let partition = store::log::partition_of(key.as_bytes());
            Record::new(i32::from(partition), key, payload)
        };
        let records: Vec<Record> = lines.iter().map(record).collect();
        append(self, topic, &records).await.map(drop)
    }
}

/// Appends to the log in PostgreSQL, a record's partition being its column partition; returns their ids.
pub(crate) async fn append(
    world: &World,
    topic: &str,
    records: &[Record],
) -> anyhow::Result<Vec<i64>> {
    let topic = world.topic(topic);
    let ids = append_unnoted(world, &topic, records).await?;
    let mut appended = world.appended.lock().unwrap();
    for (id, record) in ids.iter().zip(records) {
        let place: Place = (topic.clone(), record.partition, *id);
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let message = Message {
            topic: topic.clone(),
            partition: record.partition,
            offset: *id,
            key: record.key.as_ref().map(text),
            headers: vec![],
            payload: record.payload.as_ref().map(text),
        };
        appended.insert(place, message);
    }
    Ok(ids)
}

/// The same without taking notes, for a million.
pub(crate) async fn append_unnoted(
    world: &World,
    topic: &str,
    records: &[direct::Record],
) -> anyhow::Result<Vec<i64>> {
    let mut client = world.database.connect().await?;
    let partitions: Vec<i16> = records
        .iter()
        .map(|record| i16::try_from(record.partition))
        .collect::<Result<_, _>>()?;
    let topics = vec![topic; records.len()];
    let keys: Vec<Option<&[u8]>> = records.iter().map(|record| record.key.as_deref()).collect();
    let headers: Vec<Vec<u8>> = records
        .iter()
        .map(|record| {
            let headers = record.headers.iter();
            store::log::pack_headers(headers.map(|(name, value)| (*name, value.as_slice())))
        })
        .collect();
    let payloads: Vec<Option<&[u8]>> = records
        .iter()
        .map(|record| record.payload.as_deref())
        .collect();
    let transaction = client.transaction().await?;
    transaction
        .execute(
            "select log_append($1, $2, $3, $4, $5)",
            &[&partitions, &topics, &keys, &headers, &payloads],
        )
        .await?;
    // Its lock is held to the end, so the ids are in a row.
    let last: i64 = transaction
        .query_one(
            "select currval(pg_get_serial_sequence('event_log', 'id'))",
            &[],
        )
        .await?
        .get(0);
    transaction.commit().await?;
    let count = i64::try_from(records.len())?;
    Ok((last - count + 1..=last).collect())
}
