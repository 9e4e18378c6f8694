//! Recomputes from the rows what is kept beside them, and finds what differs: slice by slice, each in
//! one snapshot, so that what is stored meanwhile makes no difference.

mod counts;
mod finding;
mod ids;
mod positions;
mod projections;
mod repair;
mod rows;
mod runs;
mod streams;

pub use counts::day as counts_of_day;
pub use finding::{Finding, FindingKind};
pub use ids::{IdCursor, ids};
pub use positions::{LogEnd, positions};
pub use projections::{projections, states};
pub use repair::repair;
pub use rows::{erased, kept_from, next_day, strays, tenants};
pub use runs::{
    Audit, Progress, StoredFinding, claim, create, end, findings, list, nightly, progress,
    unrepaired,
};
pub use streams::{StreamCursor, streams};
