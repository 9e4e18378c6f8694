//! What happens to a user reaches his browser: each event once, in order, or he is told.
//!
//! Support first: [`feed`] makes and sends numbered events of many users, [`listener`] behaves as
//! a browser does.

pub(crate) mod feed;
pub(crate) mod listener;
pub(crate) mod malformed;

mod browser;
mod dedup;
mod edge;
mod resume;
mod slow;

use crate::system::System;
use crate::world::sum;

/// The breaker's states as the gauge shows them.
pub(crate) const CLOSED: f64 = 0.0;
pub(crate) const OPEN: f64 = 1.0;

pub(crate) async fn breaker_state(system: &System) -> f64 {
    sum(
        &system.processor_url("/metrics"),
        "eventbridge_breaker_state",
        &[],
    )
    .await
}

pub(crate) async fn breaker_transitions(system: &System, to: &str) -> f64 {
    let name = "eventbridge_breaker_transitions_total";
    sum(&system.processor_url("/metrics"), name, &[("to", to)]).await
}
