//! The query service's metrics.

use prometheus::Registry;
use service::declare::exponential;

/// All metrics of the query service.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Of the requests and of the reads behind them.
    pub reads: ReadMetrics,
    /// Of the answers kept.
    pub cache: CacheMetrics,
    /// Of the streams of live events.
    pub sse: SseMetrics,
}

impl Metrics {
    /// Creates and registers them.
    ///
    /// # Errors
    /// A metric of one of these names is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            reads: ReadMetrics::register(registry)?,
            cache: CacheMetrics::register(registry)?,
            sse: SseMetrics::register(registry)?,
        };
        // Each counter is there, at 0, before anything is counted.
        let (reads, sse) = (&metrics.reads, &metrics.sse);
        for (counter, values) in [
            (
                &reads.failures,
                &["unavailable", "too_slow", "data", "overloaded"][..],
            ),
            (&sse.opened, &["live", "after", "malformed"]),
            (&sse.closed, &["client", "slow", "shutdown"]),
            (
                &sse.refused,
                &["user_limit", "tenant_limit", "process_limit", "draining"],
            ),
            (
                &sse.resets,
                &["malformed", "unknown", "trimmed", "expired", "gap"],
            ),
        ] {
            for value in values {
                counter.with_label_values(&[*value]);
            }
        }
        for kind in ["statistics", "recent"] {
            for result in ["hit", "shared", "miss"] {
                metrics.cache.answers.with_label_values(&[kind, result]);
            }
        }
        Ok(metrics)
    }
}

service::metrics! {
    /// Metrics of the requests and of the reads behind them.
    pub struct ReadMetrics {
        /// Seconds from request to answer, by route, method and status.
        pub http_seconds: HistogramVec("tidegate_query_http_request_duration_seconds",
            ["route", "method", "status"], buckets = exponential(0.000_5, 2.0, 16)),
        /// Seconds one read of the database took, connection included.
        pub seconds: HistogramVec("tidegate_query_read_duration_seconds", ["read"],
            buckets = exponential(0.000_5, 2.0, 16)),
        /// Reads that gave no answer, by reason: unavailable, too_slow, data, overloaded.
        pub failures: IntCounterVec("tidegate_query_read_failures_total", ["reason"]),
        /// Bytes of answers being made, or not yet taken by their clients.
        pub inflight_bytes: IntGauge("tidegate_query_inflight_bytes"),
        /// Connections of the pool by state.
        pub pool: IntGaugeVec("tidegate_database_pool_connections", ["state"]),
        /// 1 while PostgreSQL answers.
        pub database_connected: IntGauge("database_connected"),
        /// 1 while the channels of live events can be used.
        pub live_connected: IntGauge("tidegate_live_connected"),
    }
}

service::metrics! {
    /// Metrics of the answers kept.
    pub struct CacheMetrics {
        /// Answers that are kept for a moment, by kind and where they came from: hit (kept in this process,
        /// or loaded for another request at the same time), shared (kept in Redis), miss (loaded).
        pub answers: IntCounterVec("tidegate_query_cache_answers_total", ["kind", "result"]),
        /// Uses of the cache in Redis that failed; the answer came from PostgreSQL then.
        pub errors: IntCounter("tidegate_query_cache_errors_total"),
        /// Bytes of answers kept in this process.
        pub bytes: IntGauge("tidegate_query_cache_bytes"),
    }
}

service::metrics! {
    /// Metrics of the streams of live events; also the business metric of session activity (S2-62).
    pub struct SseMetrics {
        /// Open live streams.
        pub connections: IntGauge("tidegate_sse_connections"),
        /// Users with an open live stream.
        pub users: IntGauge("tidegate_sse_users"),
        /// Live streams opened, by how they begin: live, after, malformed.
        pub opened: IntCounterVec("tidegate_sse_opened_total", ["resume"]),
        /// Live streams ended, by reason: client, slow, shutdown.
        pub closed: IntCounterVec("tidegate_sse_closed_total", ["reason"]),
        /// Live streams refused, by reason: user_limit, tenant_limit, process_limit, draining.
        pub refused: IntCounterVec("tidegate_sse_refused_total", ["reason"]),
        /// Messages sent on live streams.
        pub messages: IntCounter("tidegate_sse_messages_total"),
        /// Live streams that were sent a reset, because something may be missing, by reason.
        pub resets: IntCounterVec("tidegate_sse_resets_total", ["reason"]),
    }
}
