//! What the processor counts.

use std::time::Duration;

use domain::Event;
use service::declare::exponential;
use store::Kind;
use store::outbox::Sink;
use store::write::{DeadLetter, ID_CONFLICT, Written};
use time::OffsetDateTime;

service::metrics! {
    /// What the storing role counts.
    pub struct Metrics {
        /// Records of the log by result: stored, duplicate, dead, erased (of a user who was erased since).
        pub records: IntCounterVec("tidegate_processor_records_total", ["result"]),
        /// Records kept as dead letters, by reason.
        pub dead_letters: IntCounterVec("tidegate_processor_dead_letters_total", ["reason"]),
        /// Events whose id is stored with other content; each is a dead letter `id_conflict`.
        pub id_conflicts: IntCounter("tidegate_processor_id_conflicts_total"),
        /// Duration of one storing transaction.
        pub write_seconds: Histogram(
            "tidegate_processor_write_seconds", buckets = exponential(0.001, 2.0, 16)
        ),
        /// Records of one storing transaction.
        pub batch_records: Histogram(
            "tidegate_processor_batch_records", buckets = exponential(1.0, 2.0, 14)
        ),
        /// Time from the receipt of an event to its storing.
        pub store_latency_seconds: Histogram(
            "tidegate_processor_store_latency_seconds", buckets = exponential(0.001, 2.0, 16)
        ),
        /// Events counted as `other`, because their tenant's day has too many types.
        pub other_types: IntCounter("tidegate_processor_events_counted_as_other_total"),
        /// Failed storing transactions by kind: transient, data, conflict, rules.
        pub write_failures: IntCounterVec("tidegate_processor_write_failures_total", ["kind"]),
        /// Announcements by result: sent, failed, sent_to_nats.
        pub announcements: IntCounterVec("tidegate_processor_announcements_total", ["result"]),
        /// Times that Kafka no longer had what was to be stored next, by reason: retention, new_topic.
        pub log_gaps: IntCounterVec("tidegate_processor_log_gaps_total", ["reason"]),
        /// Offsets that Kafka no longer had when they were to be stored, as far as their number is known.
        pub log_gap_records: IntCounter("tidegate_processor_log_gap_records_total"),
        /// Records of the log not yet stored, by topic and partition.
        pub consumer_lag: IntGaugeVec(
            "tidegate_processor_consumer_lag_records", ["topic", "partition"]
        ),
    }
}

service::metrics! {
    /// The state of the storing role's dependencies.
    pub struct StateMetrics {
        /// 1 while a Kafka broker answers.
        pub kafka_connected: IntGauge("kafka_connected"),
        /// 1 while PostgreSQL answers.
        pub database_connected: IntGauge("database_connected"),
        /// Records that are still to be read again because the database was put back.
        pub rewind_records: IntGauge("tidegate_processor_rewind_records"),
        /// Bytes of records between the logs and the database.
        pub buffered_bytes: IntGauge("tidegate_processor_buffered_bytes"),
        /// Records in the Postgres log that are not stored yet, whichever processor will store them.
        pub postgres_log_records: IntGauge("tidegate_processor_postgres_log_records"),
        /// Age of the oldest of the records in the Postgres log.
        pub postgres_log_oldest: IntGauge("tidegate_processor_postgres_log_oldest_seconds"),
        /// Partitions of events are made up to this time, in seconds since 1970.
        pub partitions_until: IntGauge("tidegate_processor_partitions_until_seconds"),
        /// Partitions not made or dropped yet because another transaction held a lock.
        pub partition_lock_timeouts: IntCounter("tidegate_processor_partition_lock_timeouts_total"),
        /// Connections of the pool by state: in_use, open, max.
        pub pool_connections: IntGaugeVec("tidegate_database_pool_connections", ["state"]),
    }
}

service::metrics! {
    /// What processors do with stored events.
    pub struct ProcessingMetrics {
        /// Attempts of processors by result: success, skipped, retry, failed.
        pub runs: IntCounterVec("tidegate_processor_runs_total", ["processor", "result"]),
        /// Duration of one attempt.
        pub seconds: Histogram(
            "tidegate_processor_run_seconds", buckets = exponential(0.001, 4.0, 10)
        ),
        /// Attempts that ended after another one had begun; they count for nothing.
        pub lost: IntCounter("tidegate_processor_runs_lost_total"),
    }
}

service::metrics! {
    /// What the processor that looks for anomalies found.
    pub struct AnomalyMetrics {
        /// Alerts that are open, by kind: error_rate, surge, silence.
        pub open: IntGaugeVec("tidegate_anomaly_alerts_open", ["kind"]),
        /// Everything up to this time is judged, in seconds since 1970.
        pub judged_until: IntGauge("tidegate_anomaly_judged_until_seconds"),
    }
}

service::metrics! {
    /// What audits found.
    pub struct AuditMetrics {
        /// Differences that the last audit found and did not repair.
        pub unrepaired: IntGauge("tidegate_audit_differences"),
    }
}

service::metrics! {
    /// How events are built.
    pub struct InstrumentationMetrics {
        /// Events that came again (duplicate), name no id (without_ids), or whose clock is wrong (late, early).
        pub events: IntCounterVec("tidegate_instrumentation_events_total", ["problem"]),
        /// Events that were not looked at, because there were too many types at once.
        pub ignored: IntCounter("tidegate_instrumentation_ignored_total"),
    }
}

service::metrics! {
    /// Deliveries of webhooks.
    pub struct WebhookMetrics {
        /// Attempts to deliver by result: delivered, retry, failed.
        pub attempts: IntCounterVec("tidegate_webhook_attempts_total", ["result"]),
        /// Duration of one attempt.
        pub seconds: Histogram("tidegate_webhook_attempt_seconds", buckets = exponential(0.001, 4.0, 10)),
        /// Endpoints that nothing is sent to for the moment, because they failed in a row.
        pub open: IntGauge("tidegate_webhook_breakers_open"),
        /// Deliveries that are not done, up to 100,000: not begun yet, under way, or due again later.
        pub waiting: IntGauge("tidegate_webhook_waiting_deliveries"),
        /// How long the oldest delivery has been due, of endpoints that take what is sent to them.
        pub overdue: IntGauge("tidegate_webhook_overdue_seconds"),
    }
}

service::metrics! {
    /// The index that events are searched by.
    pub struct SearchMetrics {
        /// Events put into the search index.
        pub indexed: IntCounter("tidegate_search_indexed_total"),
        /// Events that the search engine refused; each is a dead letter `search_refused`.
        pub refused: IntCounter("tidegate_search_refused_total"),
        /// Times that the search engine or PostgreSQL did not answer; it is tried again.
        pub failures: IntCounter("tidegate_search_failures_total"),
        /// How long ago that was stored which the search index has last; 0 when it has everything.
        pub lag: Gauge("tidegate_search_lag_seconds"),
    }
}

impl Metrics {
    /// A transaction is committed: so many events were to be stored, and that became of them.
    pub(crate) fn written(
        &self,
        took: Duration,
        events: usize,
        written: &Written<'_>,
        letters: &[&DeadLetter],
    ) {
        let Written {
            new,
            refused,
            letters: kept,
            erased,
        } = written;
        self.write_seconds.observe(took.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has thousands of records"
        )]
        self.batch_records.observe((events + letters.len()) as f64);
        for (result, count) in [
            ("stored", new.len()),
            ("duplicate", events - new.len() - refused.len() - erased),
            ("dead", kept.len() + refused.len()),
            ("erased", erased + letters.len() - kept.len()),
        ] {
            self.records
                .with_label_values(&[result])
                .inc_by(count as u64);
        }
        for letter in kept.iter().copied().chain(refused) {
            if letter.reason == ID_CONFLICT {
                self.id_conflicts.inc();
            }
            self.dead_letters
                .with_label_values(&[letter.reason.as_str()])
                .inc();
        }
    }

    /// These events are stored since then; with each whether it was not before.
    pub(crate) fn stored<'a>(
        &self,
        at: OffsetDateTime,
        events: impl Iterator<Item = (&'a Event, bool)>,
    ) {
        let latencies = self.store_latency_seconds.local();
        for (event, _) in events.filter(|(_, is_new)| *is_new) {
            let latency = at - event.received_at;
            latencies.observe(latency.as_seconds_f64().max(0.0));
        }
        latencies.flush();
    }

    pub(crate) fn write_failed(&self, kind: Kind) {
        let kind = match kind {
            Kind::Transient => "transient",
            Kind::Data => "data",
            Kind::Conflict => "conflict",
            Kind::Rules => "rules",
        };
        self.write_failures.with_label_values(&[kind]).inc();
    }

    pub(crate) fn announced(&self, on: Sink, events: usize) {
        let result = match on {
            Sink::Kafka => "sent",
            Sink::Nats => "sent_to_nats",
        };
        let sent = self.announcements.with_label_values(&[result]);
        sent.inc_by(events as u64);
    }

    pub(crate) fn announcement_failed(&self) {
        self.announcements.with_label_values(&["failed"]).inc();
        self.dead_letters
            .with_label_values(&["announcement_failed"])
            .inc();
    }

    pub(crate) fn log_gap(&self, reason: &str, records: Option<i64>) {
        self.log_gaps.with_label_values(&[reason]).inc();
        self.dead_letters.with_label_values(&["log_gap"]).inc();
        self.log_gap_records
            .inc_by(u64::try_from(records.unwrap_or(0)).unwrap_or(0));
    }
}
