//! One event from a backend.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::Event;
use service::EventResponse;
use service::answer::Answer;
use service::problem::ProblemBody;
use store::outcomes::Outcome;

use super::answer::{self, Received};
use super::refusal::Refusal;
use super::request::{Admitted, Body, Request};
use super::route::Route;
use super::schema::{CloudEvent, EventRequest};
use super::wait;
use crate::accept::{self, Accepted};
use crate::middleware::Chain;
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
        let (accepted, noted, body) = read(&request, state.middleware(), admitted)?;
        let first = |all: &[Accepted], outcome: Option<&Outcome>| {
            let answer = all.first().map(|one| write(&one.event, outcome));
            answer.unwrap_or_default()
        };
        let (status, answer, held) = if let Some(wait) = wait {
            // Few wait, and what they need would make the future of every request larger.
            let stored = Box::pin(request.store(accepted, body, wait));
            let (kept, outcomes, held) = stored.await?;
            let status = wait::status(None, &outcomes)?;
            let outcome = outcomes.first().and_then(Option::as_ref);
            (status, first(&kept, outcome), held)
        } else {
            let answer = first(&accepted, None);
            let published = request.publish(accepted, body, answer.len());
            (route.success(), answer, published.await?)
        };
        let answer = state.middleware().after(&noted, answer);
        Ok((status, Answer::new(answer, held)))
    }
    .await;
    request.finish(result)
}

/// The event of a body as the steps leave it, the only one of the list; what they are told afterwards; and the
/// body. Ends before anything is waited for, so that the future of a request need not hold what it uses.
fn read(
    request: &Request<'_>,
    steps: &Chain,
    admitted: Admitted<'_>,
) -> Result<(Vec<Accepted>, Vec<Event>, Body), Refusal> {
    let intake = request.intake(&admitted);
    let accepted = vec![steps.before(accept::one(&admitted.body.bytes, &intake)?, &intake)?];
    let noted = steps.noted(&accepted);
    Ok((accepted, noted, admitted.body))
}
