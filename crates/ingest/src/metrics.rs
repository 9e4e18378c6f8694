//! The gateway's metrics. The time to an acknowledgement is measured by the log's producer
//! (`eventlog_publish_seconds`).

use std::sync::Arc;

use eventlog::ByteBudget;
use prometheus::{Histogram, IntCounter, PullingGauge, Registry};
use service::declare::exponential;

use crate::http::route::Route;
use crate::spill::{Kind, Writer};

/// Classes of status by their first digit, from 2.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

service::metrics! {
    /// What is counted and measured of requests.
    struct Requests {
        /// Events accepted (acknowledged by the log) and rejected; a body that could not be read counts as one.
        events: IntCounterVec("tidegate_ingest_events_total", ["result", "reason", "route"]),
        /// Time from the head of a request to its answer, by route and class of status.
        seconds: HistogramVec(
            "tidegate_ingest_request_seconds", ["route", "status"],
            buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
        ),
        /// Size of request bodies, decompressed.
        body_bytes: Histogram("tidegate_ingest_request_body_bytes", buckets = exponential(256.0, 4.0, 8)),
    }
}

/// The gateway's metrics, with the handles of the common case at hand.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Requests,
    accepted: [IntCounter; Route::ALL.len()],
    answered: [[Histogram; CLASSES.len()]; Route::ALL.len()],
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A metric is registered twice.
    pub fn new(
        registry: &Registry,
        writer: &Arc<Writer>,
        budget: &Arc<ByteBudget>,
    ) -> Result<Self, prometheus::Error> {
        register_gauges(registry, writer, budget)?;
        let requests = Requests::register(registry)?;
        let Requests {
            events, seconds, ..
        } = &requests;
        let accepted = |route: Route| events.with_label_values(&["accepted", "", route.label()]);
        let answered =
            |route: Route| CLASSES.map(|class| seconds.with_label_values(&[route.label(), class]));
        Ok(Self {
            accepted: Route::ALL.map(accepted),
            answered: Route::ALL.map(answered),
            requests,
        })
    }

    /// Counts events that the log has acknowledged.
    pub fn accepted(&self, route: Route, events: usize) {
        if let Some(counter) = self.accepted.get(route as usize) {
            counter.inc_by(events as u64);
        }
    }

    /// Counts events that were not taken; `reason` is of a bounded set.
    pub fn rejected(&self, route: Route, reason: &str, events: usize) {
        self.requests
            .events
            .with_label_values(&["rejected", reason, route.label()])
            .inc_by(events as u64);
    }

    /// Measures a request that was answered.
    pub fn answered(&self, route: Route, status: u16, seconds: f64) {
        let class = usize::from(status / 100).saturating_sub(2);
        let by_class = self.answered.get(route as usize);
        if let Some(histogram) = by_class.and_then(|histograms| histograms.get(class)) {
            histogram.observe(seconds);
        }
    }

    /// Measures a body that was read.
    pub fn body(&self, bytes: usize) {
        self.requests.body_bytes.observe(bytes as f64);
    }
}

/// Registers gauges whose value is taken when they are read.
fn register_gauges(
    registry: &Registry,
    writer: &Arc<Writer>,
    budget: &Arc<ByteBudget>,
) -> Result<(), prometheus::Error> {
    type Value = Box<dyn Fn() -> f64 + Send + Sync>;
    let register = |name: &str, help: &str, value: Value| {
        registry.register(Box::new(PullingGauge::new(name, help, value)?))
    };
    let (name, help) = match writer.kind() {
        Kind::Kafka => ("kafka_connected", "1 while a Kafka broker is reachable."),
        Kind::Postgres => (
            "tidegate_ingest_log_connected",
            "1 while the Postgres log is reachable.",
        ),
    };
    let of = Arc::clone(writer);
    register(name, help, Box::new(move || f64::from(of.connected())))?;
    if writer.can_spill() {
        let of = Arc::clone(writer);
        register(
            "tidegate_ingest_spilling",
            "1 while backend events go to the Postgres log instead of Kafka.",
            Box::new(move || f64::from(of.is_spilling())),
        )?;
    }
    let budget = Arc::clone(budget);
    register(
        "tidegate_ingest_inflight_bytes",
        "Bytes of requests being read or waiting for their acknowledgement, and of answers not yet taken by their clients.",
        Box::new(move || budget.used() as f64),
    )
}
