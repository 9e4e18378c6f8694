//! How partitions are made and how long they are kept.

use time::Duration;

use super::interval::Interval;

/// Rows that a partition should not exceed, unless it is set otherwise.
pub const TARGET_ROWS: i64 = 5_000_000;

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Time held by one partition; `None` lets the rate decide.
    pub interval: Option<Interval>,
    /// Rows that a partition should not exceed, where the rate decides.
    pub target_rows: i64,
    /// For so long after now, and after what lies furthest in the future, partitions are made.
    pub ahead: Duration,
    /// So far in the future may events lie.
    pub horizon: Duration,
    /// Events older than this are removed; `None` keeps all of them.
    pub keep: Option<Duration>,
}

impl Policy {
    /// Reads it; events may lie `horizon` in the future.
    #[must_use]
    pub fn from_env(env: &config::Env, horizon: Duration) -> Self {
        const INTERVAL: &str = "PARTITION_INTERVAL";
        let interval: String = env.get(
            &[INTERVAL],
            "auto",
            "Time held by one partition of the events table: month, day or hour; auto takes the longest that stays within PARTITION_TARGET_ROWS.",
        );
        let interval = match interval.as_str() {
            "auto" => None,
            "month" => Some(Interval::Month),
            "day" => Some(Interval::Day),
            "hour" => Some(Interval::Hour),
            other => {
                env.complain(INTERVAL, other, "auto, month, day or hour");
                None
            }
        };
        Self {
            interval,
            target_rows: env.get_in(
                &["PARTITION_TARGET_ROWS"],
                TARGET_ROWS,
                1..=1_000_000_000,
                "Rows that a partition should not exceed; with PARTITION_INTERVAL=auto.",
            ),
            ahead: Duration::days(env.get_in(
                &["PARTITIONS_AHEAD_DAYS"],
                3,
                1..=60,
                "Days for which partitions are made ahead of time.",
            )),
            horizon,
            keep: Self::keep_from_env(env),
        }
    }

    /// Reads only how long events are kept.
    #[must_use]
    pub fn keep_from_env(env: &config::Env) -> Option<Duration> {
        let days = env.get_in(
            &["RETENTION_DAYS"],
            0,
            0..=36_500,
            "Days after which events are removed, by their time, with their ids; their counts stay. 0 keeps them.",
        );
        (days > 0).then(|| Duration::days(days))
    }
}
