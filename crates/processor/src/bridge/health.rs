//! `GET /api/v1/bridge/health` (S2-39, S2-55 … S2-62): what an engineer wants to see first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::Source as _;
use eventlog::kafka::Handle;
use prometheus::Histogram;
use serde_json::{Value, json};

use super::breaker::BreakerState;
use super::metrics::Status;
use super::publish::{Publisher, SERVICE};

/// How often gauges are set.
const WATCH: Duration = Duration::from_secs(1);

/// What the health is made of.
#[derive(Clone)]
pub struct Monitor {
    pub(super) publisher: Arc<Publisher>,
    /// Absent where the bridge is only fed.
    pub(super) consumer: Option<Handle>,
    pub(super) started: Instant,
}

impl Monitor {
    /// The status map.
    #[must_use]
    pub fn get_health_status(&self) -> Value {
        let metrics = &self.publisher.metrics;
        let gate = &self.publisher.gate;
        let (state, failure_rate) = gate.state();
        let retry_in = gate
            .retry_at()
            .map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64());
        let connected = self.publisher.channels.connected();
        let kafka = self.kafka();
        let healthy = connected && state == BreakerState::Closed && kafka["ok"] == true;
        let rates = metrics.rates();
        json!({
            "status": if healthy { "healthy" } else { "degraded" },
            "service": SERVICE,
            "timestamp": domain::timestamp::format(service::clock::now()),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "circuit_breaker": {
                "state": state.as_str(),
                "failure_rate": failure_rate,
                "retry_in_seconds": retry_in,
                "unreported_drops": gate.unreported_drops(),
            },
            "redis": {"connected": connected, "problem": self.publisher.channels.problem()},
            "kafka": kafka,
            "events": metrics.totals(),
            "rates": {
                "published_per_second": rates.throughput,
                "errors_per_second": rates.errors,
                "filter_rate": rates.filter,
                "push_success_rate": rates.success,
            },
            "errors": metrics.failures(),
            "rejected": metrics.rejections(),
            "published_types": metrics.published_types(),
            "mean_seconds": {
                "processing": mean(&metrics.processing_seconds),
                "end_to_end": mean(&metrics.end_to_end_seconds),
                "redis_publish": mean(&metrics.publish_seconds),
                "kafka_consume": mean(&metrics.consume_seconds),
            },
            "sessions": {"active": metrics.sessions()},
            "custom": self.publisher.extension.get_custom_health_status(),
        })
    }

    fn kafka(&self) -> Value {
        let Some(consumer) = &self.consumer else {
            return json!({"ok": true, "consumer": null});
        };
        let lag = consumer.lag();
        let known = || lag.iter().filter_map(|lag| lag.lag);
        let problem = consumer.problem();
        json!({
            "ok": consumer.connected() && problem.is_none(),
            "connected": consumer.connected(),
            "problem": problem,
            "lag_records": known().sum::<i64>(),
            "partitions": lag.iter().map(|lag| json!({
                "topic": &*lag.topic, "partition": lag.partition, "lag_records": lag.lag,
            })).collect::<Vec<_>>(),
        })
    }

    /// Sets the gauges once a second, and takes and logs the rates at every `interval` (S2-46),
    /// until dropped.
    pub async fn watch(self, interval: Duration) {
        let mut every = tokio::time::interval(WATCH);
        let (mut taken, mut logged) = (Instant::now(), 0);
        let mut shown = HashSet::new();
        loop {
            every.tick().await;
            let metrics = &self.publisher.metrics;
            let (state, failure_rate) = self.publisher.gate.state();
            metrics.breaker_state.set(state.gauge());
            metrics.breaker_failure_rate.set(failure_rate);
            let connected = self.publisher.channels.connected();
            metrics.redis_connected.set(i64::from(connected));
            let lag = self.consumer.as_ref().map_or_else(Vec::new, Handle::lag);
            shown = metrics.show_lag(&lag, &shown);
            if taken.elapsed() >= interval {
                taken = Instant::now();
                let consumed = metrics.total(Status::Consumed);
                if std::mem::replace(&mut logged, consumed) == consumed {
                    // Idle: a line every half a minute would say nothing.
                    metrics.collect();
                } else {
                    self.log("bridge");
                }
            }
        }
    }

    /// Takes the rates and logs them with the totals.
    pub(super) fn log(&self, what: &'static str) {
        let metrics = &self.publisher.metrics;
        let rates = metrics.collect();
        let totals = json!(metrics.totals()).to_string();
        tracing::info!(
            target: SERVICE,
            service = SERVICE,
            events = totals,
            published_per_second = rates.throughput,
            errors_per_second = rates.errors,
            filter_rate = rates.filter,
            push_success_rate = rates.success,
            breaker = self.publisher.gate.state().0.as_str(),
            "{what}"
        );
    }
}

fn mean(histogram: &Histogram) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = histogram.get_sample_count() as f64;
    (count > 0.0).then(|| histogram.get_sample_sum() / count)
}
