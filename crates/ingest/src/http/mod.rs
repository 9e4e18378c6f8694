//! The routes: extract, call, answer.

pub mod answer;
pub mod batch;
pub mod events;
pub mod frontend;
mod refusal;

use std::time::Instant;

use actix_cors::Cors;
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use eventlog::BytePermit;
use service::http::{get, post};

use crate::accept::{Accepted, Intake};
use crate::body::{self, BodyError};
use crate::client_info::ClientInfo;
use crate::record::record;
use crate::state::State;
pub use refusal::Refusal;

/// POST one event (S1-06, S1-08).
pub const EVENTS: [&str; 2] = ["/api/events", "/api/v1/events"];
/// POST one event (S0-25, S4-18).
pub const CREATE: [&str; 2] = ["/api/events/create", "/api/v1/events/create"];
/// POST many events (S0-27, S4-21).
pub const BATCH: [&str; 2] = ["/api/events/batch", "/api/v1/events/batch"];
/// POST one event of a browser or app (S0-20, S4-52).
pub const FRONTEND: [&str; 2] = ["/api/frontend/events", "/api/v1/events/frontend"];
/// POST many events of a browser or app (S0-22, S4-53).
pub const FRONTEND_BATCH: [&str; 2] = [
    "/api/frontend/events/batch",
    "/api/v1/events/frontend/batch",
];
/// GET whether events of browsers and apps can be taken (S0-19, S4-51).
pub const FRONTEND_HEALTH: [&str; 2] = ["/api/frontend/health", "/api/v1/events/frontend/health"];
/// GET the description of this interface.
pub const OPENAPI: &str = "/openapi.json";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const ANONYMOUS_ID: HeaderName = HeaderName::from_static("anonymousid");

/// What a route is called in metrics, and what else differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the constants above")]
pub enum Route {
    Events,
    Create,
    Batch,
    Frontend,
    FrontendBatch,
}

impl Route {
    /// Every route, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Events,
        Self::Create,
        Self::Batch,
        Self::Frontend,
        Self::FrontendBatch,
    ];

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Create => "create",
            Self::Batch => "batch",
            Self::Frontend => "frontend",
            Self::FrontendBatch => "frontend_batch",
        }
    }

    /// The status of the good answer (C02).
    #[must_use]
    pub fn success(self) -> StatusCode {
        match self {
            Self::Events => StatusCode::ACCEPTED,
            Self::Create | Self::Batch => StatusCode::CREATED,
            Self::Frontend | Self::FrontendBatch => StatusCode::OK,
        }
    }

    /// Where the other shape of body belongs.
    fn sibling(self) -> &'static str {
        let [one, _] = match self {
            Self::Events | Self::Create => BATCH,
            Self::Batch => CREATE,
            Self::Frontend => FRONTEND_BATCH,
            Self::FrontendBatch => FRONTEND,
        };
        one
    }

    fn is_frontend(self) -> bool {
        matches!(self, Self::Frontend | Self::FrontendBatch)
    }

    /// The CloudEvents media type it takes, if any.
    fn cloudevents(self) -> Option<&'static str> {
        match self {
            Self::Events | Self::Create => Some("application/cloudevents+json"),
            Self::Batch => Some("application/cloudevents-batch+json"),
            Self::Frontend | Self::FrontendBatch => None,
        }
    }
}

/// Registers every route; `/health`, `/ready` and `/metrics` come from the service crate.
pub fn routes(app: &mut web::ServiceConfig, state: &web::Data<State>) {
    let mut scope = web::scope("").app_data(state.clone());
    for path in EVENTS {
        scope = scope.service(post(path, events::receive));
    }
    for path in CREATE {
        scope = scope.service(post(path, events::create));
    }
    for path in BATCH {
        scope = scope.service(post(path, batch::create));
    }
    for path in FRONTEND {
        scope = scope.service(post(path, frontend::collect));
    }
    for path in FRONTEND_BATCH {
        scope = scope.service(post(path, frontend::collect_many));
    }
    for path in FRONTEND_HEALTH {
        scope = scope.service(get(path, frontend::health));
    }
    let scope = scope
        .service(get(OPENAPI, crate::openapi::serve))
        .default_service(web::to(service::problem::not_found));
    app.service(scope.wrap(cors(state.config.cors_origins.as_deref())));
}

fn cors(origins: Option<&[String]>) -> Cors {
    service::cors::layer(origins)
        .allowed_methods([Method::GET, Method::HEAD, Method::POST, Method::OPTIONS])
        .allowed_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            CONTENT_ENCODING,
            IDEMPOTENCY_KEY,
            TRACEPARENT,
            ANONYMOUS_ID,
            service::request_id::HEADER,
        ])
}

/// A request on its way: measured from here to [`Request::finish`].
pub(crate) struct Request<'a> {
    http: &'a HttpRequest,
    state: &'a State,
    route: Route,
    started: Instant,
}

/// A request that was let in, with its body.
pub(crate) struct Admitted {
    body: Bytes,
    permit: BytePermit,
    client: Option<ClientInfo>,
    is_cloudevent: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(http: &'a HttpRequest, state: &'a State, route: Route) -> Self {
        Self {
            http,
            state,
            route,
            started: Instant::now(),
        }
    }

    /// Looks at what costs nothing first: nobody uploads a body that cannot be taken.
    pub(crate) async fn admit(&self, payload: web::Payload) -> Result<Admitted, Refusal> {
        let Self { state, route, .. } = *self;
        let headers = self.http.headers();
        if !state.writer.admits(route.is_frontend()) {
            return Err(Refusal::Unavailable("unavailable"));
        }
        let is_cloudevent = media_type(headers, route)?;
        idempotency_key(headers)?;
        let mut permit = state.budget.acquire(0).map_err(BodyError::from)?;
        let body = body::read(headers, payload, state.config.body, &mut permit).await?;
        state.metrics.body(body.len());
        let client = route
            .is_frontend()
            .then(|| ClientInfo::of(self.http, &state.config.trusted_proxies));
        Ok(Admitted {
            body,
            permit,
            client,
            is_cloudevent,
        })
    }

    pub(crate) fn intake<'b>(&'b self, admitted: &'b Admitted) -> Intake<'b> {
        let (state, route) = (self.state, self.route);
        Intake {
            tenant: &state.tenant,
            received_at: service::clock::now(),
            limits: state.config.limits,
            max_batch_events: state.config.max_batch_events,
            client: admitted.client.as_ref(),
            content_type: route.cloudevents().filter(|_| admitted.is_cloudevent),
            // Looked at when the request was let in.
            idempotency_key: idempotency_key(self.http.headers()).unwrap_or_default(),
            fresh_id: service::clock::fresh_id,
            sibling: route.sibling(),
        }
    }

    /// Puts the events on the log and waits until all replicas have them. `answer` is what is held
    /// meanwhile.
    pub(crate) async fn publish(
        &self,
        mut accepted: Vec<Accepted>,
        admitted: Admitted,
        answer: &[u8],
    ) -> Result<(), Refusal> {
        let state = self.state;
        let count = accepted.len();
        let traceparent = traceparent(self.http.headers());
        let records: Vec<_> = accepted
            .iter_mut()
            .map(|one| {
                let topic = state.topic(domain::subject::topic(&one.event));
                record(one, topic, traceparent)
            })
            .collect();
        let Admitted {
            body, mut permit, ..
        } = admitted;
        let held: usize = records
            .iter()
            .map(|one| one.key.len() + one.payload.len())
            .sum();
        permit
            .resize(held + answer.len())
            .map_err(BodyError::from)?;
        drop((body, accepted));
        state
            .writer
            .publish(records, self.route.is_frontend())
            .await?;
        state.metrics.accepted(self.route, count);
        Ok(())
    }

    pub(crate) fn finish(&self, result: Result<Vec<u8>, Refusal>) -> HttpResponse {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let metrics = &self.state.metrics;
        let response = match result {
            Ok(answer) => HttpResponse::build(self.route.success())
                .insert_header((CONTENT_TYPE, JSON))
                .body(answer),
            Err(refusal) => {
                metrics.rejected(self.route, refusal.reason(), refusal.events());
                refusal.respond(self.state.retry_after())
            }
        };
        let took = self.started.elapsed().as_secs_f64();
        metrics.answered(self.route, response.status().as_u16(), took);
        response
    }
}

/// Whether the body is declared to be CloudEvents; otherwise JSON, plain text (what
/// `navigator.sendBeacon` sends) or nothing declared.
fn media_type(headers: &HeaderMap, route: Route) -> Result<bool, Refusal> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(false);
    };
    let refuse = || {
        let shown = String::from_utf8_lossy(value.as_bytes());
        Refusal::MediaType(shown.chars().take(100).collect())
    };
    let value = value.to_str().map_err(|_| refuse())?;
    let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
    let essence = essence.trim();
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let charset = value.trim().trim_matches('"');
        let utf8 = ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|known| charset.eq_ignore_ascii_case(known));
        if name.trim().eq_ignore_ascii_case("charset") && !utf8 {
            return Err(refuse());
        }
    }
    let is = |known: &str| essence.eq_ignore_ascii_case(known);
    if essence.is_empty() || is("application/json") || is("text/plain") {
        Ok(false)
    } else if route.cloudevents().is_some_and(is) {
        Ok(true)
    } else {
        Err(refuse())
    }
}

/// The key under which a retry is recognised (C28).
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|key| (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()))
        .map(Some)
        .ok_or(Refusal::IdempotencyKey)
}

/// The W3C trace context, if it looks like one.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(TRACEPARENT)?.to_str().ok()?;
    let sane = |b: u8| b == b'-' || b.is_ascii_hexdigit();
    ((55..=128).contains(&value.len()) && value.bytes().all(sane)).then_some(value)
}
