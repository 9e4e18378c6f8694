//! What the console is told about one moment.

use domain::timestamp;
use serde::Serialize;
use store::figures::Figures;
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::state::State;

/// One moment: `event: moment`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Moment {
    /// When.
    #[serde(serialize_with = "timestamp::serialize")]
    pub at: OffsetDateTime,
    /// What /ready says of this process, by name: `ok`, `detail`, `advisory`.
    #[schema(value_type = Object)]
    pub checks: serde_json::Map<String, serde_json::Value>,
    /// What the database says; null while it does not answer.
    #[schema(required = true)]
    pub figures: Option<FiguresView>,
    /// Who listens to this process; null for those who do not manage the installation.
    #[schema(required = true)]
    pub live: Option<LiveFigures>,
}

/// What the tenant has stored and what waits. What waits is counted up to 100,000.
#[derive(Debug, Serialize, ToSchema)]
pub struct FiguresView {
    /// Events, ever.
    pub stored: i64,
    /// Events stored a second since the moment before; null at first.
    #[schema(required = true)]
    pub stored_per_second: Option<f64>,
    /// Open dead letters.
    pub dead: i64,
    /// Events that wait for a processor.
    pub unprocessed: i64,
    /// Events that wait for a webhook.
    pub undelivered: i64,
    /// Webhooks that fail.
    pub failing: i64,
    /// Alerts that are open.
    pub alerts: i64,
    /// Records in the log on PostgreSQL that are not stored yet, of all tenants.
    pub in_log: i64,
    /// Records in Kafka that are not stored yet, of all tenants, as processors noted in the last minute; null if
    /// none did, as where there is no Kafka.
    #[schema(required = true)]
    pub in_kafka: Option<i64>,
    /// Announcements that wait, of all tenants.
    pub unannounced: i64,
    /// When something was stored last, of any tenant.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub moved_at: Option<OffsetDateTime>,
    /// Seconds from accepted to stored, of the events of the last five: in the middle.
    #[schema(required = true)]
    pub lag_median_seconds: Option<f64>,
    /// The same, at most.
    #[schema(required = true)]
    pub lag_most_seconds: Option<f64>,
    /// Numbers that are others once something happened there.
    pub changes: ChangesView,
}

/// Numbers that are others once something happened there.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangesView {
    /// To dead letters.
    pub dead_letters: i64,
    /// To deliveries of webhooks, of all tenants.
    pub deliveries: i64,
    /// To replays.
    pub replays: i64,
    /// To erasures.
    pub erasures: i64,
    /// To alerts.
    pub alerts: i64,
    /// To audits, of the whole installation.
    pub audits: i64,
}

/// The listeners of this process.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveFigures {
    /// Open live streams, consoles included.
    pub listeners: i64,
    /// Messages sent on live streams a second since the moment before; null at first.
    #[schema(required = true)]
    pub sent_per_second: Option<f64>,
}

/// What is counted up, at the moment before.
#[derive(Default)]
pub(super) struct Before(Option<(Instant, u64)>);

impl Before {
    /// How much a second it has grown since.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate need not be exact beyond 2^53"
    )]
    fn rate(&mut self, now: u64) -> Option<f64> {
        let at = Instant::now();
        let before = self.0.replace((at, now));
        before.map(|(since, before)| {
            let seconds = at.duration_since(since).as_secs_f64().max(0.001);
            now.saturating_sub(before) as f64 / seconds
        })
    }
}

/// What the figures were at the moment before.
#[derive(Default)]
pub(super) struct Rates {
    stored: Before,
    sent: Before,
}

impl Rates {
    pub(super) fn figures(&mut self, figures: Figures) -> FiguresView {
        let stored = u64::try_from(figures.stored).unwrap_or_default();
        FiguresView {
            stored: figures.stored,
            stored_per_second: self.stored.rate(stored),
            dead: figures.dead,
            unprocessed: figures.unprocessed,
            undelivered: figures.undelivered,
            failing: figures.failing,
            alerts: figures.alerts,
            in_log: figures.in_log,
            in_kafka: figures.in_kafka,
            unannounced: figures.unannounced,
            moved_at: figures.moved_at,
            lag_median_seconds: figures.recent.median_seconds,
            lag_most_seconds: figures.recent.most_seconds,
            changes: ChangesView {
                dead_letters: figures.changes.dead_letters,
                deliveries: figures.changes.deliveries,
                replays: figures.changes.replays,
                erasures: figures.changes.erasures,
                alerts: figures.changes.alerts,
                audits: figures.changes.audits,
            },
        }
    }

    pub(super) fn live(&mut self, state: &State) -> LiveFigures {
        LiveFigures {
            listeners: state.metrics.sse.connections.get(),
            sent_per_second: self.sent.rate(state.metrics.sse.messages.get()),
        }
    }
}
