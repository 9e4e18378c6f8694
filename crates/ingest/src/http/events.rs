//! One event from a backend.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::Event;
use service::EventResponse;
use service::answer::Answer;
use service::problem::ProblemBody;
use store::outcomes::Outcome;

use super::answer::{self, Received};
use super::refusal::Refusal;
use super::request::Request;
use super::route::Route;
use super::schema::{CloudEvent, EventRequest};
use super::wait;
use crate::accept;
use crate::state::State;

/// POST /api/events, /api/v1/events (S1-06 to S1-08).
#[utoipa::path(
    post,
    path = "/api/events",
    tag = "events",
    summary = "Take one event",
    description = "Answers once the event log has it. The body may also be any other known envelope: a domain event, the bus map or a CloudEvent; one in binary mode has its attributes in `ce-` headers.",
    params(
        ("wait" = Option<String>, Query, pattern = "^stored$", description = "`stored`: answer once the event is stored (201), conflicts with what is (409), or 10 seconds are over (202)."),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`: the same, at most 60 seconds."),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "1 to 255 visible ASCII characters; an event without an id of its own gets the same id on every retry with the same content.")),
    request_body(content(
        (EventRequest = "application/json"),
        (CloudEvent = "application/cloudevents+json"),
    )),
    responses(
        (status = 202, description = "Taken", body = Received),
        (status = 201, description = "Stored, where the request waited for it", body = Received),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    single(&request, payload, &state, Route::Events, answer::received).await
}

/// POST /api/events/create, /api/v1/events/create (S0-25, S4-18).
#[utoipa::path(
    post,
    path = "/api/events/create",
    tag = "events",
    summary = "Take one event and answer with it",
    description = "Answers once the event log has it. The body may also be any other known envelope: a domain event, the bus map or a CloudEvent; one in binary mode has its attributes in `ce-` headers.",
    params(
        ("wait" = Option<String>, Query, pattern = "^stored$", description = "`stored`: answer once the event is stored (201), conflicts with what is (409), or 10 seconds are over (202)."),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`: the same, at most 60 seconds."),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "1 to 255 visible ASCII characters; an event without an id of its own gets the same id on every retry with the same content.")),
    request_body(content(
        (EventRequest = "application/json"),
        (CloudEvent = "application/cloudevents+json"),
    )),
    responses(
        (status = 201, description = "Taken", body = EventResponse),
        (status = 202, description = "Taken, not stored within the time", body = EventResponse),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    single(&request, payload, &state, Route::Create, answer::created).await
}

/// What the routes for one event have in common.
pub(super) async fn single(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
    route: Route,
    write: fn(&Event, Option<&Outcome>) -> Vec<u8>,
) -> HttpResponse {
    let request = Request::new(request, state, route);
    let result: Result<_, Refusal> = async {
        let wait = request.wait()?;
        let admitted = request.admit(payload).await?;
        let intake = request.intake(&admitted);
        let steps = state.middleware();
        let accepted = steps.before(accept::one(&admitted.body, &intake)?, &intake)?;
        let events = steps.noted(std::slice::from_ref(&accepted));
        let Some(wait) = wait else {
            let answer = write(&accepted.event, None);
            let published = request.publish(vec![accepted], admitted, answer.len());
            let held = published.await?;
            return Ok((
                route.success(),
                Answer::new(steps.after(&events, answer), held),
            ));
        };
        let (kept, outcomes, held) = request.store(vec![accepted], admitted, wait).await?;
        let status = wait::status(None, &outcomes)?;
        let outcome = outcomes.first().and_then(Option::as_ref);
        let answer = kept.first().map(|one| write(&one.event, outcome));
        let answer = steps.after(&events, answer.unwrap_or_default());
        Ok((status, Answer::new(answer, held)))
    }
    .await;
    request.finish(result)
}
