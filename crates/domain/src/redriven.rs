//! Records that are stored again after they were dead letters: where they came from, and their headers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Header in the Postgres log with the [`RecordOrigin`] of a record that was a dead letter.
pub const HEADER_DEAD_LETTER: &str = "dead-letter";

/// Begins the text of a header's value that is no text itself.
const BASE64: &str = "base64:";

/// A header's value as the text that a dead letter keeps: a value that is no text, or one that `jsonb`
/// cannot hold, stands as `base64:…`.
#[must_use]
pub fn header_text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') && !text.starts_with(BASE64) => text.to_owned(),
        _ => format!("{BASE64}{}", STANDARD.encode(value)),
    }
}

/// The value of which [`header_text`] made that text.
#[must_use]
pub fn header_value(text: &str) -> Vec<u8> {
    let encoded = text.strip_prefix(BASE64);
    let decoded = encoded.and_then(|text| STANDARD.decode(text).ok());
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

/// Where a record stood first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordOrigin {
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

impl RecordOrigin {
    /// Reads what [`fmt::Display`] writes of one that was a dead letter.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let origin = Self {
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
        words.next().is_none().then_some(origin)
    }
}

impl fmt::Display for RecordOrigin {
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
    use super::{RecordOrigin, header_text, header_value};

    #[test]
    fn a_header_is_kept_as_a_text_and_comes_back() {
        for (value, text) in [
            (&b"plain \xc3\xa4"[..], "plain \u{e4}"),
            (b"", ""),
            (b"a\0b", "base64:YQBi"),
            (b"\xff", "base64:/w=="),
            (b"base64:YQ==", "base64:YmFzZTY0OllRPT0="),
        ] {
            assert_eq!(header_text(value), text);
            assert_eq!(header_value(text), value);
        }
        // Not of this making.
        assert_eq!(header_value("base64:?"), b"base64:?");
    }

    #[test]
    fn what_is_written_reads_back() {
        for (from_postgres, timestamp_ms) in [(true, None), (false, Some(-1)), (false, Some(7))] {
            let origin = RecordOrigin {
                dead_letter: Some(5),
                from_postgres,
                partition: 3,
                offset: i64::MAX,
                timestamp_ms,
            };
            assert_eq!(
                RecordOrigin::parse(origin.to_string().as_bytes()),
                Some(origin)
            );
        }
        for wrong in [
            "",
            "5",
            "5 kafka 3 7",
            "5 nats 3 7 -",
            "5 kafka 3 7 - x",
            "x kafka 3 7 -",
        ] {
            assert_eq!(RecordOrigin::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
