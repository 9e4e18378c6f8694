//! Makes publishing a record again harmless; the script in Redis has the same rule.

use crate::message::Position;

/// The last position of a partition that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HighWaterMark {
    offset: i64,
    /// The latest so far: records' times do not rise strictly.
    timestamp_ms: i64,
}

impl HighWaterMark {
    /// The mark once `position` is published; `None` if it was reached before. An offset that was
    /// passed, with a time later than any so far, is of a log that was deleted and created again.
    pub(crate) fn advance(mark: Option<Self>, position: &Position) -> Option<Self> {
        let Position {
            offset,
            timestamp_ms,
            ..
        } = *position;
        let timestamp_ms = match mark {
            Some(mark) if offset <= mark.offset && timestamp_ms <= mark.timestamp_ms => {
                return None;
            }
            Some(mark) if offset > mark.offset => mark.timestamp_ms.max(timestamp_ms),
            _ => timestamp_ms,
        };
        Some(Self {
            offset,
            timestamp_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(
        mark: Option<HighWaterMark>,
        offset: i64,
        timestamp_ms: i64,
    ) -> Option<HighWaterMark> {
        let position = Position {
            partition: "t/0".into(),
            offset,
            timestamp_ms,
        };
        HighWaterMark::advance(mark, &position)
    }

    #[test]
    fn what_was_passed_is_passed_whatever_its_time() {
        let mut mark = advance(None, 0, -1);
        for (offset, timestamp) in [(1, 90), (2, 70), (5, 80)] {
            mark = advance(mark, offset, timestamp);
            assert!(mark.is_some());
        }
        for (offset, timestamp) in [(0, -1), (1, 90), (2, 70), (5, 80)] {
            assert_eq!(advance(mark, offset, timestamp), None);
        }
        assert!(advance(mark, 6, 1).is_some());
    }

    #[test]
    fn a_log_that_was_created_again_counts_from_zero() {
        let mark = advance(advance(None, 900, 100), 0, 101);
        assert_eq!(advance(mark, 0, 101), None);
        assert!(advance(mark, 1, 101).is_some());
    }
}
