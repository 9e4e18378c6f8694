//! What the query service counts.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// The query service's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Seconds from request to answer, by route, method and status.
    pub http_seconds: HistogramVec,
    /// Seconds one read of the database took, connection included, by what was read.
    pub read_seconds: HistogramVec,
    /// Reads that gave no answer, by reason: unavailable, too_slow, data.
    pub read_failures: IntCounterVec,
    /// Connections of the pool by state.
    pub pool: IntGaugeVec,
    /// 1 while PostgreSQL answers.
    pub database_connected: IntGauge,
    /// 1 while the channels of live events can be used.
    pub live_connected: IntGauge,
    /// Of the streams of live events.
    pub sse: SseMetrics,
}

impl Metrics {
    /// Creates and registers them.
    ///
    /// # Errors
    /// One is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = || prometheus::exponential_buckets(0.000_5, 2.0, 16);
        let metrics = Self {
            http_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "tidegate_query_http_request_duration_seconds",
                    "Seconds from request to answer, by route, method and status.",
                )
                .buckets(seconds()?),
                &["route", "method", "status"],
            )?,
            read_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "tidegate_query_read_duration_seconds",
                    "Seconds one read of the database took, connection included.",
                )
                .buckets(seconds()?),
                &["read"],
            )?,
            read_failures: IntCounterVec::new(
                Opts::new(
                    "tidegate_query_read_failures_total",
                    "Reads that gave no answer, by reason: unavailable, too_slow, data.",
                ),
                &["reason"],
            )?,
            pool: IntGaugeVec::new(
                Opts::new(
                    "tidegate_database_pool_connections",
                    "Connections of the pool by state.",
                ),
                &["state"],
            )?,
            database_connected: IntGauge::new("database_connected", "1 while PostgreSQL answers.")?,
            live_connected: IntGauge::new(
                "tidegate_live_connected",
                "1 while the channels of live events can be used.",
            )?,
            sse: SseMetrics::register(registry)?,
        };
        registry.register(Box::new(metrics.http_seconds.clone()))?;
        registry.register(Box::new(metrics.read_seconds.clone()))?;
        registry.register(Box::new(metrics.read_failures.clone()))?;
        registry.register(Box::new(metrics.pool.clone()))?;
        registry.register(Box::new(metrics.database_connected.clone()))?;
        registry.register(Box::new(metrics.live_connected.clone()))?;
        for reason in ["unavailable", "too_slow", "data"] {
            metrics.read_failures.with_label_values(&[reason]);
        }
        Ok(metrics)
    }
}

/// What is counted of the streams of live events; also the business metric of session activity
/// (S2-62).
#[derive(Debug, Clone)]
pub struct SseMetrics {
    /// Open streams.
    pub connections: IntGauge,
    /// Users with an open stream.
    pub users: IntGauge,
    /// Streams opened, by how they begin: live, after, malformed.
    pub opened: IntCounterVec,
    /// Streams ended, by reason: client, slow, shutdown.
    pub closed: IntCounterVec,
    /// Streams refused, by reason: user_limit, process_limit, draining.
    pub refused: IntCounterVec,
    /// Messages sent.
    pub messages: IntCounter,
    /// Clients told that they missed something, by reason.
    pub resets: IntCounterVec,
}

impl SseMetrics {
    /// Creates and registers them.
    ///
    /// # Errors
    /// One is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, label: &str, values: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            for value in values {
                counter.with_label_values(&[*value]);
            }
            Ok::<_, prometheus::Error>(counter)
        };
        let metrics = Self {
            connections: IntGauge::new("tidegate_sse_connections", "Open live streams.")?,
            users: IntGauge::new("tidegate_sse_users", "Users with an open live stream.")?,
            opened: counter(
                "tidegate_sse_opened_total",
                "Live streams opened, by how they begin: live, after, malformed.",
                "resume",
                &["live", "after", "malformed"],
            )?,
            closed: counter(
                "tidegate_sse_closed_total",
                "Live streams ended, by reason: client, slow, shutdown.",
                "reason",
                &["client", "slow", "shutdown"],
            )?,
            refused: counter(
                "tidegate_sse_refused_total",
                "Live streams refused, by reason: user_limit, process_limit, draining.",
                "reason",
                &["user_limit", "process_limit", "draining"],
            )?,
            messages: IntCounter::new(
                "tidegate_sse_messages_total",
                "Messages sent on live streams.",
            )?,
            resets: counter(
                "tidegate_sse_resets_total",
                "Live streams told that something may be missing, by reason.",
                "reason",
                &["malformed", "unknown", "trimmed", "expired", "gap"],
            )?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.users.clone()))?;
        registry.register(Box::new(metrics.messages.clone()))?;
        Ok(metrics)
    }
}
