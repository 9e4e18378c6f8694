//! Messages of Segment's and RudderStack's clients.

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, web};
use service::problem::ProblemBody;

use super::answer::{self, Messages, Queued};
use super::batch::many;
use super::refusal::Refusal;
use super::route::Route;
use super::schema::{RudderstackMessages, SegmentBatch};
use crate::segment;
use crate::state::State;

/// What shows that RudderStack sent it.
const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");

/// POST /v1/batch, /v1/import, /v1/track … and the short names of Segment's browser client.
#[utoipa::path(
    post,
    path = "/v1/batch",
    operation_id = "segment",
    tag = "segment",
    summary = "Take messages of Segment's and RudderStack's clients",
    description = "A batch, of which the good messages are taken, or by the path one message. Any Content-Type is read as JSON; the write key comes as the user of Basic authentication.",
    request_body = SegmentBatch,
    responses(
        (status = 200, description = "Taken", body = Messages),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn take(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let call = segment::call(request.path());
    many(
        &request,
        payload,
        &state,
        Route::Segment,
        |body, intake, _| segment::messages(body, intake, call),
        |batch, _, _| answer::messages(batch),
    )
    .await
}

/// POST /webhooks/rudderstack (S4-54, S4-120).
#[utoipa::path(
    post,
    path = "/webhooks/rudderstack",
    tag = "segment",
    summary = "Take messages of RudderStack's webhook",
    description = "One message, or an array of them, of which the good ones are taken.",
    params(("X-Signature" = Option<String>, Header, description = "Needed where RUDDERSTACK_WEBHOOK_SECRET is set: the HMAC-SHA256 of the body in hexadecimal.")),
    request_body = RudderstackMessages,
    responses(
        (status = 200, description = "Taken", body = Queued),
        (status = 401, description = "A wrong signature", body = ProblemBody, content_type = "application/problem+json"),
        (status = "default", description = "Refused", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn webhook(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let given = request.headers().get(SIGNATURE);
    let given = given.map_or(&b""[..], |given| given.as_bytes());
    let signature = state.config.rudderstack.as_ref();
    many(
        &request,
        payload,
        &state,
        Route::Rudderstack,
        |body, intake, _| {
            if signature.is_some_and(|signature| !signature.fits(body, given)) {
                return Err(Refusal::Signature);
            }
            Ok(segment::webhook(body, intake)?)
        },
        |batch, _, _| answer::queued(batch),
    )
    .await
}
