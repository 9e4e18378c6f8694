//! What makes publishing again harmless; the script in Redis does the same.

use crate::message::Position;

/// The last position of a partition that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    offset: i64,
    /// The latest so far: records' times do not rise strictly.
    timestamp_ms: i64,
}

impl Reached {
    /// What is reached once `position` is published; `None` if it was reached before. An offset
    /// that was passed, with a time later than any so far, is of a log that was made anew.
    pub(crate) fn advance(reached: Option<Self>, position: &Position) -> Option<Self> {
        let timestamp_ms = match reached {
            Some(reached)
                if position.offset <= reached.offset
                    && position.timestamp_ms <= reached.timestamp_ms =>
            {
                return None;
            }
            Some(reached) if position.offset > reached.offset => {
                reached.timestamp_ms.max(position.timestamp_ms)
            }
            _ => position.timestamp_ms,
        };
        Some(Self {
            offset: position.offset,
            timestamp_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advance(reached: Option<Reached>, offset: i64, timestamp_ms: i64) -> Option<Reached> {
        let position = Position {
            partition: "t/0".into(),
            offset,
            timestamp_ms,
        };
        Reached::advance(reached, &position)
    }

    #[test]
    fn what_was_passed_is_passed_whatever_its_time() {
        let mut reached = advance(None, 0, -1);
        for (offset, timestamp) in [(1, 90), (2, 70), (5, 80)] {
            reached = advance(reached, offset, timestamp);
            assert!(reached.is_some());
        }
        for (offset, timestamp) in [(0, -1), (1, 90), (2, 70), (5, 80)] {
            assert_eq!(advance(reached, offset, timestamp), None);
        }
        assert!(advance(reached, 6, 1).is_some());
    }

    #[test]
    fn a_log_made_anew_counts_from_zero() {
        let reached = advance(advance(None, 900, 100), 0, 101);
        assert_eq!(advance(reached, 0, 101), None);
        assert!(advance(reached, 1, 101).is_some());
    }
}
