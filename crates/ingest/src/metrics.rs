//! The gateway's metrics, declared once. The time to an acknowledgement is measured by the log's
//! producer (`eventlog_publish_seconds`).

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use eventlog::ByteBudget;

use crate::http::Route;
use crate::spill::{Kind, Writer};

/// Classes of status by their first digit, from 2.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Counters and histograms; the handles of the common case are looked up once.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: IntCounterVec,
    accepted: [IntCounter; Route::ALL.len()],
    answered: [[Histogram; CLASSES.len()]; Route::ALL.len()],
    body_bytes: Histogram,
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
        let events = IntCounterVec::new(
            Opts::new(
                "tidegate_ingest_events_total",
                "Events accepted (acknowledged by the log) and rejected; a body that could not be read counts as one.",
            ),
            &["result", "reason", "route"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "tidegate_ingest_request_seconds",
                "Time from the head of a request to its answer, by route and class of status.",
            )
            .buckets(vec![
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ]),
            &["route", "status"],
        )?;
        let body_bytes = Histogram::with_opts(
            HistogramOpts::new(
                "tidegate_ingest_request_body_bytes",
                "Size of request bodies, unpacked.",
            )
            .buckets(prometheus::exponential_buckets(256.0, 4.0, 8)?),
        )?;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(body_bytes.clone()))?;
        registry.register(Box::new(Live::new(writer, budget)?))?;
        Ok(Self {
            accepted: Route::ALL
                .map(|route| events.with_label_values(&["accepted", "", route.label()])),
            answered: Route::ALL.map(|route| {
                CLASSES.map(|class| seconds.with_label_values(&[route.label(), class]))
            }),
            events,
            body_bytes,
        })
    }

    /// Events that the log has acknowledged.
    pub fn accepted(&self, route: Route, events: usize) {
        if let Some(counter) = self.accepted.get(route as usize) {
            counter.inc_by(events as u64);
        }
    }

    /// Events that were not taken; `reason` is of a bounded set.
    pub fn rejected(&self, route: Route, reason: &str, events: usize) {
        self.events
            .with_label_values(&["rejected", reason, route.label()])
            .inc_by(events as u64);
    }

    /// A request was answered.
    pub fn answered(&self, route: Route, status: u16, seconds: f64) {
        let class = usize::from(status / 100).saturating_sub(2);
        if let Some(histogram) = self
            .answered
            .get(route as usize)
            .and_then(|by| by.get(class))
        {
            histogram.observe(seconds);
        }
    }

    /// A body was read.
    pub fn body(&self, bytes: usize) {
        self.body_bytes.observe(bytes as f64);
    }
}

/// Read when they are asked for, so that nothing has to keep them up to date.
struct Live {
    writer: Arc<Writer>,
    budget: Arc<ByteBudget>,
    connected: IntGauge,
    spilling: Option<IntGauge>,
    inflight: IntGauge,
}

impl Live {
    fn new(writer: &Arc<Writer>, budget: &Arc<ByteBudget>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            writer: Arc::clone(writer),
            budget: Arc::clone(budget),
            connected: match writer.kind() {
                Kind::Kafka => {
                    IntGauge::new("kafka_connected", "1 while a Kafka broker is reachable.")?
                }
                Kind::Postgres => IntGauge::new(
                    "tidegate_ingest_log_connected",
                    "1 while the Postgres log is reachable.",
                )?,
            },
            spilling: writer
                .can_spill()
                .then(|| {
                    IntGauge::new(
                        "tidegate_ingest_spilling",
                        "1 while backend events go to the Postgres log instead of Kafka.",
                    )
                })
                .transpose()?,
            inflight: IntGauge::new(
                "tidegate_ingest_inflight_bytes",
                "Bytes of requests being read or waiting for their acknowledgement.",
            )?,
        })
    }
}

impl Collector for Live {
    fn desc(&self) -> Vec<&Desc> {
        let spilling = self.spilling.iter().flat_map(Collector::desc);
        let always = [self.connected.desc(), self.inflight.desc()].concat();
        always.into_iter().chain(spilling).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.connected.set(i64::from(self.writer.connected()));
        self.inflight
            .set(i64::try_from(self.budget.used()).unwrap_or(i64::MAX));
        let mut all = [self.connected.collect(), self.inflight.collect()].concat();
        if let Some(spilling) = &self.spilling {
            spilling.set(i64::from(self.writer.is_spilling()));
            all.extend(spilling.collect());
        }
        all
    }
}
