//! Many events from a backend.

use actix_web::{HttpRequest, HttpResponse, web};
use service::Problem;
use service::answer::Answer;
use service::problem::ProblemBody;
use store::outcomes::Outcome;

use super::answer::{self, BatchAnswer};
use super::refusal::Refusal;
use super::request::Request;
use super::route::Route;
use super::schema::{CloudEventBatch, EventBatch};
use super::wait;
use crate::accept::{self, Batch, Intake};
use crate::state::State;

/// POST /api/events/batch, /api/v1/events/batch (S0-27 to S0-29, S4-21, C29).
#[utoipa::path(
    post,
    path = "/api/events/batch",
    operation_id = "create_many",
    tag = "events",
    summary = "Take many events",
    description = "A bare array. One bad element refuses all, unless `partial=true`; the answer is then an object of the accepted events and the errors.",
    params(
        ("wait" = Option<String>, Query, pattern = "^stored$", description = "`stored`: answer once all are stored (201), one conflicts with what is (409), or 10 seconds are over (202)."),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`: the same, at most 60 seconds."),
        ("partial" = Option<bool>, Query, description = "Take the good elements and list the bad ones."),
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$", description = "1 to 255 visible ASCII characters; an event without an id of its own gets the same id on every retry with the same content."),
    ),
    request_body(content(
        (EventBatch = "application/json"),
        (CloudEventBatch = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 201, description = "Taken", body = BatchAnswer),
        (status = 202, description = "Taken, not stored within the time", body = BatchAnswer),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    many(
        &request,
        payload,
        &state,
        Route::Batch,
        accept::many,
        answer::created_many,
    )
    .await
}

/// What the routes for many events have in common.
pub(super) async fn many<E: Into<Refusal>>(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
    route: Route,
    read: impl Fn(&[u8], &Intake<'_>, bool) -> Result<Batch, E>,
    write: impl Fn(&Batch, bool, &[Option<Outcome>]) -> Vec<u8>,
) -> HttpResponse {
    let partial = match partial(request.query_string()) {
        Ok(partial) => partial,
        Err(problem) => return problem.respond(),
    };
    let request = Request::new(request, state, route);
    let result: Result<_, Refusal> = async {
        let wait = request.wait()?;
        let admitted = request.admit(payload).await?;
        let intake = request.intake(&admitted);
        let batch = read(&admitted.body.bytes, &intake, partial);
        let batch = batch.map_err(Into::into)?;
        let steps = state.middleware();
        let mut batch = steps.before_many(batch, &intake, partial)?;
        let events = steps.noted(&batch.accepted);
        let answer = match wait {
            None => {
                let answer = write(&batch, partial, &[]);
                let accepted = std::mem::take(&mut batch.accepted);
                let published = request.publish(accepted, admitted.body, answer.len());
                let held = published.await?;
                Ok((
                    route.success(),
                    Answer::new(steps.after(&events, answer), held),
                ))
            }
            Some(wait) => {
                let accepted = std::mem::take(&mut batch.accepted);
                let (kept, outcomes, held) = request.store(accepted, admitted.body, wait).await?;
                batch.accepted = kept;
                let status = wait::status(Some(&batch.rejected), &outcomes);
                status.map(|status| {
                    let answer = write(&batch, partial, &outcomes);
                    (status, Answer::new(steps.after(&events, answer), held))
                })
            }
        };
        for bad in &batch.rejected {
            state.metrics.rejected(route, bad.reason, 1);
        }
        answer
    }
    .await;
    request.finish(result)
}

/// `?partial=true`.
fn partial(query: &str) -> Result<bool, Problem> {
    let value = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("partial"))
        .find_map(|rest| match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None => rest.is_empty().then_some("true"),
        });
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(Problem::unprocessable(
            "partial",
            domain::Code::WrongType,
            "must be true or false",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::partial;

    #[test]
    fn partial_is_read_from_the_query() {
        for (query, want) in [
            ("", Some(false)),
            ("partial=true", Some(true)),
            ("a=b&partial=1", Some(true)),
            ("partial", Some(true)),
            ("partial=FALSE", Some(false)),
            ("partially=true", Some(false)),
            ("partial=maybe", None),
        ] {
            assert_eq!(partial(query).ok(), want, "{query}");
        }
    }
}
