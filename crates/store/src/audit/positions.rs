//! Positions of the logs that are beyond what is stored.

use tokio_postgres::Client;

use super::finding::{Finding, FindingKind, Remedy};
use crate::error::Error;
use crate::log::LOG;

/// Where a partition of Kafka ends.
#[derive(Debug, Clone)]
pub struct LogEnd {
    /// Full name of the topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The offset after its last record.
    pub end: i64,
}

/// Records of the log on PostgreSQL are deleted by the transaction that moves the position: none that is
/// left may be before it.
const WAITING: &str = "select p.partition, p.stored, l.first from log_positions p, lateral ( \
        select min(id) as first from event_log l where l.partition = p.partition) l \
    where p.topic = $1 and l.first < p.stored";

const BEYOND: &str = "select p.topic, p.partition, p.stored, u.last, ( \
        select coalesce(max(i.log_offset) + 1, 0) from event_ids i \
        join log_partitions n on n.id = i.log_partition \
        where n.topic = p.topic and n.partition = p.partition) \
    from log_positions p join unnest($1::text[], $2::int4[], $3::int8[]) u(topic, partition, last) \
        on u.topic = p.topic and u.partition = p.partition where p.stored > u.last";

impl Finding {
    /// Whether it is still so by what is known of Kafka later: an end is known seconds after it was one.
    #[must_use]
    pub fn is_beyond(&self, ends: &[LogEnd]) -> bool {
        let Some(Remedy::Position(topic, partition, stored, _)) = &self.remedy else {
            return true;
        };
        let of = |end: &&LogEnd| end.topic == *topic && end.partition == *partition;
        ends.iter().find(of).is_none_or(|end| *stored > end.end)
    }
}

/// What is wrong with the positions. `ends` are those of Kafka, as far as they are known.
///
/// # Errors
/// The database does not answer.
pub async fn positions(client: &Client, ends: &[LogEnd]) -> Result<Vec<Finding>, Error> {
    let mut findings = vec![];
    let mut finding = |topic: String, partition: i32, stored: i64, expected: i64, to: i64| {
        findings.push(Finding {
            kind: FindingKind::PositionAhead,
            tenant: None,
            subject: format!("{topic}/{partition}"),
            expected: format!("at most {expected}"),
            found: stored.to_string(),
            events: vec![],
            remedy: Some(Remedy::Position(topic, partition, stored, to)),
        });
    };
    for row in client.query(WAITING, &[&LOG]).await? {
        let first: i64 = row.try_get(2)?;
        finding(
            LOG.to_owned(),
            row.try_get(0)?,
            row.try_get(1)?,
            first,
            first,
        );
    }
    let topics: Vec<&str> = ends.iter().map(|end| end.topic.as_str()).collect();
    let partitions: Vec<i32> = ends.iter().map(|end| end.partition).collect();
    let lasts: Vec<i64> = ends.iter().map(|end| end.end).collect();
    for row in client
        .query(BEYOND, &[&topics, &partitions, &lasts])
        .await?
    {
        let (end, stored): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
        // What is read again is known by its id.
        finding(
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get(2)?,
            end,
            stored.min(end),
        );
    }
    Ok(findings)
}
