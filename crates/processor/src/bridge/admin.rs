//! The bridge's admin surface: `GET /api/v1/bridge/health` (S2-39, S2-55 … S2-62),
//! `POST /api/v1/bridge/test` (S2-65), and the figures that are shown and logged (S2-46).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use eventlog::Source as _;
use eventlog::kafka::Handle;
use prometheus::Histogram;
use serde::Deserialize;
use serde_json::{Value, json};
use service::Problem;
use service::auth::Access;
use service::http::{get, post};
use service::problem::ProblemBody;
use utoipa::OpenApi;

use super::dry_run::DryRun;
use super::publish::{Publisher, SERVICE};

/// Bytes of a hand-made event at most; the decoder has a limit of its own.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// How often gauges are set.
const GAUGES: Duration = Duration::from_secs(1);

/// Answers the admin routes of one bridge. Clones answer for the same one.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    dry_run: DryRun,
    publisher: Arc<Publisher>,
    /// None where all events come directly.
    consumer: Option<Handle>,
    started: Instant,
    last: Mutex<Rates>,
}

/// Rates over the last collect interval (S2-51, S2-58).
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    published_per_second: f64,
    errors_per_second: f64,
}

/// Counters at the beginning of an interval.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    published: u64,
    errors: u64,
    consumed: u64,
}

impl Admin {
    /// The admin surface of a bridge that publishes so and consumes with that handle.
    #[must_use]
    pub fn new(dry_run: DryRun, publisher: Arc<Publisher>, consumer: Option<Handle>) -> Self {
        Self(Arc::new(Inner {
            dry_run,
            publisher,
            consumer,
            started: Instant::now(),
            last: Mutex::default(),
        }))
    }

    /// Adds the routes.
    pub fn routes(&self, app: &mut web::ServiceConfig) {
        let admin = web::Data::new(self.clone());
        let operator = Access::Operator;
        app.service(get("/api/v1/bridge/health", operator, health).app_data(admin.clone()));
        app.service(
            post("/api/v1/bridge/test", operator, test)
                .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
                .app_data(admin),
        );
    }

    /// The health as a JSON object.
    #[must_use]
    pub fn get_health_status(&self) -> Value {
        let Inner {
            publisher,
            consumer,
            started,
            ..
        } = &*self.0;
        let (metrics, breaker) = (&publisher.metrics, &publisher.breaker);
        let collectors = &metrics.collectors;
        let connected = publisher.channels.connected();
        let kafka = consumer
            .as_ref()
            .map_or_else(|| json!({"ok": true, "consumer": null}), kafka);
        let healthy = connected && breaker.can_attempt() && kafka["ok"] == true;
        let (totals, rates) = (metrics.totals(), self.rates());
        json!({
            "status": if healthy { "healthy" } else { "degraded" },
            "service": SERVICE,
            "timestamp": domain::timestamp::format(service::clock::now()),
            "uptime_seconds": started.elapsed().as_secs(),
            "circuit_breaker": {
                "state": breaker.state().as_str(),
                "failure_rate": breaker.failure_rate(),
                "retry_in_seconds": breaker.probe_in().map(|time| time.as_secs_f64()),
                "unreported_drops": breaker.unreported_drops(),
            },
            "redis": {"connected": connected, "problem": publisher.channels.problem()},
            "kafka": kafka,
            "events": totals,
            "rates": {
                "published_per_second": rates.published_per_second,
                "errors_per_second": rates.errors_per_second,
                "filter_rate": totals.filter_rate(),
                "push_success_rate": totals.push_success_rate(),
            },
            "errors": metrics.errors(),
            "rejected": metrics.rejections(),
            "published_types": metrics.published_types(),
            "mean_seconds": {
                "processing": mean(&collectors.processing_seconds),
                "end_to_end": mean(&collectors.end_to_end_seconds),
                "redis_publish": mean(&collectors.publish_seconds),
                "kafka_consume": mean(&collectors.consume_seconds),
            },
            "sessions": {"active": metrics.sessions()},
            "custom": publisher.extension.get_custom_health_status(),
        })
    }

    /// Sets the gauges once a second, and computes and logs the rates at every `interval` (S2-46),
    /// until dropped.
    pub async fn watch(self, interval: Duration) {
        let Inner {
            publisher,
            consumer,
            ..
        } = &*self.0;
        let collectors = &publisher.metrics.collectors;
        let mut every = tokio::time::interval(GAUGES);
        let (mut taken, mut before) = (Instant::now(), Sample::default());
        let mut shown = HashSet::new();
        loop {
            every.tick().await;
            let connected = publisher.channels.connected();
            collectors.redis_connected.set(i64::from(connected));
            let sessions = i64::try_from(publisher.metrics.sessions());
            collectors.active_sessions.set(sessions.unwrap_or(i64::MAX));
            let lag = consumer.as_ref().map_or_else(Vec::new, Handle::lag);
            shown = publisher.metrics.show_lag(&lag, &shown);
            if let Some(bytes) = publisher.channels.kept_bytes().await {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                collectors.history_bytes.set(bytes);
            }
            if taken.elapsed() >= interval {
                let now = self.sample();
                let rates = now.since(before, taken.elapsed());
                *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = rates;
                if now.consumed > before.consumed {
                    self.log("bridge");
                }
                (taken, before) = (Instant::now(), now);
            }
        }
    }

    /// Logs the totals and rates.
    pub fn log(&self, message: &'static str) {
        let publisher = &self.0.publisher;
        let (totals, rates) = (publisher.metrics.totals(), self.rates());
        tracing::info!(
            target: SERVICE,
            service = SERVICE,
            events = json!(totals).to_string(),
            published_per_second = rates.published_per_second,
            errors_per_second = rates.errors_per_second,
            filter_rate = totals.filter_rate(),
            push_success_rate = totals.push_success_rate(),
            breaker = publisher.breaker.state().as_str(),
            "{message}"
        );
    }

    fn rates(&self) -> Rates {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sample(&self) -> Sample {
        let metrics = &self.0.publisher.metrics;
        let totals = metrics.totals();
        Sample {
            published: totals.published,
            errors: metrics.errors().values().sum(),
            consumed: totals.consumed,
        }
    }
}

impl Sample {
    fn since(self, before: Self, time: Duration) -> Rates {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let per_second = |now: u64, before: u64| (now - before) as f64 / time.as_secs_f64();
        Rates {
            published_per_second: per_second(self.published, before.published),
            errors_per_second: per_second(self.errors, before.errors),
        }
    }
}

fn kafka(consumer: &Handle) -> Value {
    let lag = consumer.lag();
    let problem = consumer.problem();
    json!({
        "ok": consumer.connected() && problem.is_none(),
        "connected": consumer.connected(),
        "problem": problem,
        "lag_records": lag.iter().filter_map(|lag| lag.lag).sum::<i64>(),
        "partitions": lag.iter().map(|lag| json!({
            "topic": &*lag.topic, "partition": lag.partition, "lag_records": lag.lag,
        })).collect::<Vec<_>>(),
    })
}

fn mean(histogram: &Histogram) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = histogram.get_sample_count() as f64;
    (count > 0.0).then(|| histogram.get_sample_sum() / count)
}

#[derive(OpenApi)]
#[openapi(paths(health, test))]
struct Described;

/// The descriptions of its routes.
#[must_use]
pub fn description() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

/// How the bridge is: breaker, Redis, Kafka, totals and rates.
#[utoipa::path(get, path = "/api/v1/bridge/health", tag = "bridge", operation_id = "bridge_health",
    responses((status = 200, body = Object, description = "Its health, good or bad")))]
async fn health(admin: web::Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().json(admin.get_health_status())
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    publish: bool,
}

/// What the bridge makes of a hand-made event, stage by stage. For operators: with `publish=true` it
/// is pushed to its user's listeners, and stored nowhere.
#[utoipa::path(post, path = "/api/v1/bridge/test", tag = "bridge", operation_id = "bridge_test",
    params(("publish" = Option<bool>, Query, description = "true publishes it; default false")),
    request_body(content = Option<Value>, description = "An event in any envelope; whatever it is, the answer says what becomes of it"),
    responses((status = 200, body = Object, description = "The verdict of each stage"),
        (status = 400, body = ProblemBody, content_type = "application/problem+json", description = "The body or `publish` could not be read"),
        (status = 403, body = ProblemBody, content_type = "application/problem+json", description = "At the edge: operators ask the processor itself"),
        (status = 413, body = ProblemBody, content_type = "application/problem+json", description = "Too large")))]
async fn test(
    admin: web::Data<Admin>,
    parameters: Result<web::Query<Parameters>, actix_web::Error>,
    body: Result<web::Bytes, actix_web::Error>,
) -> HttpResponse {
    let Ok(parameters) = parameters else {
        return Problem::bad_request("publish must be true or false").respond();
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return unreadable(&error).respond(),
    };
    let publisher = Some(&*admin.0.publisher);
    let verdict = admin
        .0
        .dry_run
        .run(publisher, &body, parameters.publish)
        .await;
    HttpResponse::Ok().json(verdict.stages)
}

fn unreadable(error: &actix_web::Error) -> Problem {
    if error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::too_large(format!("the body has more than {MAX_BODY_BYTES} bytes"))
    } else {
        Problem::bad_request(format!("the body could not be read: {error}"))
    }
}
