//! A listing goes back in time step by step, each over few partitions: what a statement touches it
//! locks, with every index, and a year of days would be thousands of locks for one page.

use time::OffsetDateTime;
use tokio_postgres::types::Type;

use crate::sql::Sql;

/// Partitions of the first step, which most often is the only one.
const FIRST: usize = 8;
/// Partitions of the later ones.
const NEXT: usize = 16;

/// A part of time, from (inclusive) and to (exclusive); `None` is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Its begin.
    pub from: Option<OffsetDateTime>,
    /// Its end.
    pub to: Option<OffsetDateTime>,
}

/// The steps that cover the time from `start` to `end` (both inclusive), the newest first. `edges` are
/// where partitions meet, the oldest first; should they have changed, the steps still cover all.
#[must_use]
pub fn steps(
    edges: &[OffsetDateTime],
    start: Option<OffsetDateTime>,
    end: Option<OffsetDateTime>,
) -> Vec<Step> {
    let newest = edges.partition_point(|edge| end.is_none_or(|end| *edge <= end));
    let oldest = edges.partition_point(|edge| start.is_some_and(|start| *edge <= start));
    let mut inner = edges.get(oldest..newest).unwrap_or_default();
    let mut steps = Vec::new();
    let mut to = edges.get(newest).copied();
    let mut size = FIRST;
    // A step of n partitions has n - 1 edges inside.
    while let Some((rest, from)) = inner.len().checked_sub(size).and_then(|at| {
        let (rest, passed) = inner.split_at_checked(at)?;
        Some((rest, *passed.first()?))
    }) {
        steps.push(Step {
            from: Some(from),
            to,
        });
        (inner, to, size) = (rest, Some(from), NEXT);
    }
    steps.push(Step { from: None, to });
    steps
}

impl Step {
    /// Appends its conditions.
    pub(crate) fn conditions(self, sql: &mut Sql) {
        if let Some(from) = self.from {
            sql.push(" and e.timestamp >= ")
                .bind(from, Type::TIMESTAMPTZ);
        }
        if let Some(to) = self.to {
            sql.push(" and e.timestamp < ").bind(to, Type::TIMESTAMPTZ);
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use time::{Duration, OffsetDateTime};

    use super::*;

    const DAY: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    fn day(n: usize) -> OffsetDateTime {
        DAY + Duration::days(i64::try_from(n).unwrap())
    }

    fn edges(count: usize) -> Vec<OffsetDateTime> {
        (0..count).map(day).collect()
    }

    #[test]
    fn few_partitions_are_one_step() {
        assert_eq!(steps(&[], None, None), [Step::default()]);
        assert_eq!(steps(&edges(7), None, None), [Step::default()]);
    }

    #[test]
    fn many_are_covered_once_in_steps_of_few() {
        for count in [8, 9, 24, 25, 366] {
            let edges = edges(count);
            let steps = steps(&edges, None, None);
            assert_eq!(steps[0].to, None);
            assert_eq!(steps.last().unwrap().from, None);
            for pair in steps.windows(2) {
                assert_eq!(pair[0].from, pair[1].to, "no gap and no overlap");
            }
            for step in &steps {
                let inside = edges.iter().filter(|edge| {
                    step.from.is_none_or(|from| **edge > from)
                        && step.to.is_none_or(|to| **edge < to)
                });
                assert!(inside.count() < NEXT, "{step:?}");
            }
        }
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let edges = edges(366);
        let one = steps(&edges, Some(day(100) + Duration::HOUR), Some(day(103)));
        assert_eq!(
            one,
            [Step {
                from: None,
                to: Some(day(104))
            }]
        );
        let old = steps(&edges, None, Some(day(20)));
        assert_eq!(old[0].to, Some(day(21)));
        let new = steps(&edges, Some(day(360)), None);
        assert_eq!(new, [Step::default()]);
        let none = steps(&edges, Some(day(200)), Some(day(100)));
        assert_eq!(none.len(), 1);
    }
}
