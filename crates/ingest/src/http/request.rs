//! What every route for events does: admit, read, publish, answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use domain::envelope::{binary, segment};
use eventlog::{BytePermit, Outgoing};
use service::answer::Answer;
use service::auth::{Authenticator, Principal};
use store::outcomes::Outcome;

use super::cloudevent;
use super::refusal::Refusal;
use super::route::Route;
use super::wait;
use crate::accept::{Accepted, Intake};
use crate::body::{self, BodyError};
use crate::client_info::ClientInfo;
use crate::record::{follows, record};
use crate::state::State;
use crate::waiters::Ticket;

/// The header whose value makes retries recognisable (C28).
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header with the W3C trace context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request that is measured from [`Request::new`] to [`Request::finish`].
pub(crate) struct Request<'a> {
    http: &'a HttpRequest,
    state: &'a State,
    route: Route,
    who: Arc<Principal>,
    started: Instant,
}

/// The body of an admitted request, and what is known with it.
pub(crate) struct Admitted<'a> {
    pub(crate) body: Body,
    client: Option<ClientInfo>,
    /// That of CloudEvents, where the body is declared to be that.
    media_type: Option<&'static str>,
    idempotency: Option<&'a str>,
}

/// The bytes of a body, and the permit that covers them.
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    permit: BytePermit,
}

impl<'a> Request<'a> {
    pub(crate) fn new(http: &'a HttpRequest, state: &'a State, route: Route) -> Self {
        Self {
            http,
            state,
            route,
            who: Principal::of(http),
            started: Instant::now(),
        }
    }

    /// Checks the head, then reads the body: a client uploads nothing that cannot be taken.
    pub(crate) async fn admit(&self, payload: web::Payload) -> Result<Admitted<'a>, Refusal> {
        let Self {
            http, state, route, ..
        } = *self;
        let headers = http.headers();
        if !state.writer.admits(route.is_frontend()) {
            return Err(Refusal::Unavailable("unavailable"));
        }
        let is_binary = !route.is_messages() && cloudevent::is_binary(headers);
        let media_type = if route.is_messages() {
            // Clients of others declare what they like.
            Some(segment::MEDIA_TYPE)
        } else if is_binary {
            cloudevent::check_route(route)?;
            Some(binary::MEDIA_TYPE)
        } else {
            media_type(headers, route)?
        };
        let idempotency = idempotency_key(headers)?;
        let mut permit = state.budget.acquire(0).map_err(BodyError::from)?;
        let mut bytes = body::read(headers, payload, state.config.body, &mut permit).await?;
        state.metrics.body(bytes.len());
        if is_binary {
            bytes = cloudevent::structured(headers, &bytes)?.into();
            permit.resize(bytes.len()).map_err(BodyError::from)?;
        }
        let client = route
            .is_frontend()
            .then(|| ClientInfo::of(http, &state.config.trusted_proxies));
        Ok(Admitted {
            body: Body { bytes, permit },
            client,
            media_type,
            idempotency,
        })
    }

    pub(crate) fn intake<'b>(&'b self, admitted: &'b Admitted<'_>) -> Intake<'b> {
        let (state, route) = (self.state, self.route);
        Intake {
            tenant: &self.who.tenant,
            received_at: service::clock::now(),
            limits: state.config.limits,
            personal: &state.config.personal,
            max_batch_events: state.config.max_batch_events,
            client: admitted.client.as_ref(),
            content_type: admitted.media_type,
            idempotency: admitted.idempotency.map(|key| (route.label(), key)),
            fresh_id: service::clock::fresh_id,
            sibling: route.sibling(),
        }
    }

    /// How long to wait until the events are stored, if at all.
    pub(crate) fn wait(&self) -> Result<Option<Duration>, Refusal> {
        let wait = wait::asked(self.http, self.route)?;
        match (wait, &self.state.waiters) {
            (Some(_), None) => Err(Refusal::NoDatabase),
            (wait, _) => Ok(wait),
        }
    }

    /// Publishes the events and waits until it is known what became of them, or time is up. Gives the
    /// events back, without their canonical form, and the permit that covers them.
    pub(crate) async fn store(
        &self,
        accepted: Vec<Accepted>,
        body: Body,
        wait: Duration,
    ) -> Result<(Vec<Accepted>, Vec<Option<Outcome>>, BytePermit), Refusal> {
        let Some(waiters) = &self.state.waiters else {
            return Err(Refusal::NoDatabase);
        };
        let tickets = accepted.iter().map(Ticket::of).collect();
        let kept: Vec<_> = accepted
            .iter()
            .map(|one| Accepted {
                event: one.event.clone(),
                canonical: Vec::new(),
            })
            .collect();
        let bytes = accepted.iter().map(|one| one.canonical.len()).sum();
        let held = self.publish(accepted, body, bytes).await?;
        let until = tokio::time::Instant::from_std(self.started) + wait;
        let outcomes = waiters.wait(tickets, until).await;
        Ok((kept, outcomes, held))
    }

    /// Publishes the events and waits for the acknowledgement. Meanwhile, and as long as the permit
    /// lives, so many bytes of the answer are held.
    pub(crate) async fn publish(
        &self,
        accepted: Vec<Accepted>,
        body: Body,
        answer: usize,
    ) -> Result<BytePermit, Refusal> {
        let count = accepted.len();
        let (records, mut permit) = self.records(accepted, body, answer)?;
        let published = self.state.writer.publish(records, self.route.is_frontend());
        published.await?;
        self.state.metrics.accepted(self.route, count);
        permit.resize(answer).map_err(BodyError::from)?;
        Ok(permit)
    }

    /// The records of events, and the permit that covers them in place of the body. Takes the events from
    /// what the tenant may send.
    fn records(
        &self,
        accepted: Vec<Accepted>,
        mut body: Body,
        answer: usize,
    ) -> Result<(Vec<Outgoing>, BytePermit), Refusal> {
        let state = self.state;
        let mut users = accepted
            .iter()
            .filter_map(|one| one.event.user_id.as_deref());
        if !users.all(|user| self.who.may_be_about(Some(user))) {
            return Err(Refusal::OtherUser);
        }
        let sent = accepted
            .iter()
            .map(|one| (one.event.event_type.as_str(), one.canonical.len()));
        let now = || (Instant::now(), service::clock::now());
        let limits = Authenticator::limits_of(self.http);
        let taken = state.rate.take(&self.who.tenant, limits, sent, now);
        taken.map_err(Refusal::TenantRate)?;
        let traceparent = traceparent(self.http.headers());
        let follows = follows(&accepted);
        let records: Vec<_> = accepted
            .into_iter()
            .zip(follows)
            .map(|(one, follows)| {
                let topic = state.topic(domain::subject::topic(&one.event));
                record(one, topic, traceparent, follows)
            })
            .collect();
        let held: usize = records
            .iter()
            .map(|one| one.key.len() + one.payload.len())
            .sum();
        let permit = &mut body.permit;
        permit.resize(held + answer).map_err(BodyError::from)?;
        Ok((records, body.permit))
    }

    /// Answers, and measures how long that took.
    pub(crate) fn finish(
        &self,
        result: Result<(StatusCode, Answer<BytePermit>), Refusal>,
    ) -> HttpResponse {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let metrics = &self.state.metrics;
        let response = match result {
            Ok((status, answer)) => HttpResponse::build(status)
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

/// The media type of CloudEvents where the body is declared to be that; otherwise it is JSON, plain
/// text (what `navigator.sendBeacon` sends) or nothing declared.
fn media_type(headers: &HeaderMap, route: Route) -> Result<Option<&'static str>, Refusal> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(None);
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
        Ok(None)
    } else {
        let cloudevents = route.cloudevents().filter(|known| is(known));
        cloudevents.map(Some).ok_or_else(refuse)
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
