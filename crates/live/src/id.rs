//! The position of a message in its channel.

use std::fmt;

/// A Redis stream id, `milliseconds-sequence`: ids of one channel rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since the Unix epoch by the server's clock.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

impl StreamId {
    /// Reads `milliseconds-sequence` in plain decimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (ms, seq) = text.split_once('-')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        Some(Self {
            ms: number(ms)?,
            seq: number(seq)?,
        })
    }

    /// The place in time just before everything of that millisecond. A listener that has received
    /// nothing yet gets such an id, so that it can resume all the same; no message ever has it.
    #[must_use]
    pub fn before(ms: u64) -> Self {
        Self {
            ms: ms.saturating_sub(1),
            seq: u64::MAX,
        }
    }

    /// Whether it is a place in time ([`Self::before`]) rather than that of a message.
    #[must_use]
    pub fn is_place_in_time(self) -> bool {
        self.seq == u64::MAX
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Where a listener wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// With what comes from now on.
    Live,
    /// After that message.
    After(StreamId),
    /// After something that is no id: it begins with a reset.
    Malformed,
}

impl Resume {
    /// Reads a `Last-Event-ID`; absent or empty is [`Self::Live`], as browsers send it.
    #[must_use]
    pub fn parse(last_event_id: Option<&str>) -> Self {
        match last_event_id.map(str::trim) {
            None | Some("") => Self::Live,
            Some(text) => StreamId::parse(text).map_or(Self::Malformed, Self::After),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_strictly_and_sort() {
        let id = |text| StreamId::parse(text);
        assert_eq!(id("12-3"), Some(StreamId { ms: 12, seq: 3 }));
        assert_eq!(id("12-3").map(|id| id.to_string()).as_deref(), Some("12-3"));
        for bad in [
            "",
            "-",
            "12",
            "12-",
            "-3",
            "+1-2",
            "1-2-3",
            " 1-2",
            "99999999999999999999-0",
        ] {
            assert_eq!(id(bad), None, "{bad:?}");
        }
        assert!(id("9-9") < id("10-0") && id("10-0") < id("10-1"));
        assert!(StreamId::before(10) < StreamId { ms: 10, seq: 0 });
    }

    #[test]
    fn a_malformed_last_event_id_is_told_from_none() {
        assert_eq!(Resume::parse(None), Resume::Live);
        assert_eq!(Resume::parse(Some("")), Resume::Live);
        assert_eq!(Resume::parse(Some("x")), Resume::Malformed);
        assert_eq!(
            Resume::parse(Some("1-0")),
            Resume::After(StreamId { ms: 1, seq: 0 })
        );
    }
}
