//! Records that are stored again after they were dead letters: where they came from.

use std::fmt;

/// Header in the Postgres log with the [`Place`] of a record that was a dead letter.
pub const HEADER_DEAD_LETTER: &str = "dead-letter";

/// Where a record stood first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the dead letter that it was since then.
    pub dead_letter: Option<i64>,
    /// Whether it stood in the Postgres log, else in Kafka.
    pub from_postgres: bool,
    /// Partition of its topic, or of the Postgres log.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

impl Place {
    /// Reads what [`fmt::Display`] writes of one that was a dead letter.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let place = Self {
            dead_letter: Some(words.next()?.parse().ok()?),
            from_postgres: match words.next()? {
                "postgres" => true,
                "kafka" => false,
                _ => return None,
            },
            partition: words.next()?.parse().ok()?,
            offset: words.next()?.parse().ok()?,
            timestamp_ms: match words.next()? {
                "-" => None,
                number => Some(number.parse().ok()?),
            },
        };
        words.next().is_none().then_some(place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = if self.from_postgres {
            "postgres"
        } else {
            "kafka"
        };
        let (dead_letter, partition, offset) =
            (self.dead_letter.unwrap_or(0), self.partition, self.offset);
        write!(f, "{dead_letter} {log} {partition} {offset} ")?;
        match self.timestamp_ms {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn what_is_written_reads_back() {
        for (from_postgres, timestamp_ms) in [(true, None), (false, Some(-1)), (false, Some(7))] {
            let place = Place {
                dead_letter: Some(5),
                from_postgres,
                partition: 3,
                offset: i64::MAX,
                timestamp_ms,
            };
            assert_eq!(Place::parse(place.to_string().as_bytes()), Some(place));
        }
        for wrong in [
            "",
            "5",
            "5 kafka 3 7",
            "5 nats 3 7 -",
            "5 kafka 3 7 - x",
            "x kafka 3 7 -",
        ] {
            assert_eq!(Place::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
