//! What the query service counts.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
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
        };
        registry.register(Box::new(metrics.http_seconds.clone()))?;
        registry.register(Box::new(metrics.read_seconds.clone()))?;
        registry.register(Box::new(metrics.read_failures.clone()))?;
        registry.register(Box::new(metrics.pool.clone()))?;
        registry.register(Box::new(metrics.database_connected.clone()))?;
        for reason in ["unavailable", "too_slow", "data"] {
            metrics.read_failures.with_label_values(&[reason]);
        }
        Ok(metrics)
    }
}
