//! Live events: what happens to a user, as server-sent events (C17).
//!
//! [`listen`] reads the request and admits the listener, [`limits`] counts the listeners and ends
//! them when the service stops, [`encoder`] turns deliveries into bytes, [`type_filter`] leaves out
//! what is not wanted, [`stream`] writes to the connection what is [`unsent`].

pub mod encoder;
pub mod end;
pub mod limits;
pub mod stream;
pub mod tickets;
pub mod type_filter;
pub mod unsent;

use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, rt, web};
use domain::field::Code;
use live::{Channel, Resume};
use service::auth::{Authenticator, Principal};
use service::{Problem, connection};

use crate::http::request::{only_about, tenant};
use crate::http::sse::encoder::{SseEncoder, SseFormat};
use crate::http::sse::stream::Stream;
use crate::http::sse::type_filter::TypeFilter;
use crate::parameters::Parameters;
use crate::state::State;

/// Where it is served.
pub const PATH: &str = "/api/v1/sse/users/{user_id}";

/// A stream is answered once its channel is listened to: whatever happens after the answer's first
/// bytes arrives. Where that takes longer, it is answered all the same, and begins with a reset.
const BEGIN: Duration = Duration::from_secs(1);

/// The last message a browser got.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The events of a user as they happen: `text/event-stream`, one message an event, named by its
/// type. A client that reconnects with the id of its last message gets what it missed; where that
/// cannot be had, a message named `reset` comes first. Anything else than 200 ends an EventSource
/// for good, so a wrong Last-Event-ID, a Redis that is down and a service that stops are answered
/// with 200 too.
///
/// # Errors
/// 422 for wrong parameters, 429 when too many listen, 503 without file descriptors.
#[utoipa::path(get, path = "/api/v1/sse/users/{user_id}", tag = "live",
    params(("user_id" = String, Path, description = "at most 255 characters"),
        ("types" = Option<String>, Query, description = "event types wanted, separated by commas; `*` is one segment, at the end any number of them, `**` any number anywhere; default all"),
        ("named" = Option<bool>, Query, description = "false sends all messages without a name, so that `onmessage` sees them; default true"),
        ("last_event_id" = Option<String>, Query, description = "resume after this message, where the header Last-Event-ID cannot be set; the header wins"),
        ("ticket" = Option<String>, Query, description = "of `POST /api/v1/sse/tickets`, in place of credentials"),
        ("Last-Event-ID" = Option<String>, Header, description = "resume after this message; browsers send it by themselves")),
    responses((status = 200, content_type = "text/event-stream", body = String,
            description = "A stream that does not end; heartbeats are comments"),
        (status = 422, description = "A wrong parameter"),
        (status = 429, description = "Too many connections of this user, or altogether"),
        (status = 503, description = "No more connections can be opened")))]
pub async fn listen(
    request: HttpRequest,
    state: web::Data<State>,
    user_id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let user_id = parameters.checked("user_id", user_id.into_inner());
    only_about(&request, user_id.as_deref())?;
    if user_id.as_deref() == Some("") {
        parameters.refuse("user_id", Code::IllegalValue, "must not be empty");
    }
    let format = SseFormat {
        named: parameters.boolean("named").unwrap_or(true),
        types: TypeFilter::read(&mut parameters),
    };
    let resume = resume(&request, &mut parameters);
    parameters.finish()?;
    let mut answer = answer();
    if request.method() == Method::HEAD {
        return Ok(answer.finish());
    }
    let channel = Channel::new(tenant(&request), &user_id.unwrap_or_default());
    let own = Authenticator::limits_of(&request).connections;
    let Some(permit) = state.listeners.admit(&channel, resume, own)? else {
        // A stream that ends at once: after it the browser reconnects, to another replica or a
        // later process; after an error page it would not.
        return Ok(answer.body(stream::retry()));
    };
    let permit = permit.within(Principal::of(&request).life.as_ref());
    let socket = connection::of(&request).map_err(|error| {
        tracing::warn!(%error, "refusing a live stream that could not be opened");
        Problem::unavailable("No more connections can be opened", 5)
    })?;
    let mut subscription = state
        .channels
        .subscribe(channel, resume, state.sse.queue_bytes);
    let begun = tokio::time::timeout(BEGIN, subscription.next()).await;
    let begun = begun.ok().flatten();
    let late = begun.is_none() && resume == Resume::Live;
    let encoder = SseEncoder::new(subscription, format, begun, late);
    let stream = Stream::new(socket, encoder, permit, state.sse.heartbeat);
    Ok(connection::hand_over(answer, || drop(rt::spawn(stream))))
}

/// The head of a stream: no cache stores it, no proxy changes or delays it.
pub(super) fn answer() -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header((ACCEL_BUFFERING, "no"));
    answer
}

/// Where to begin. A browser that reconnects sends the header with its first URL: the header is the
/// newer.
fn resume(request: &HttpRequest, parameters: &mut Parameters<'_>) -> Resume {
    let header = request.headers().get(LAST_EVENT_ID);
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let given = header.filter(|text| !text.trim().is_empty());
    Resume::parse(
        given
            .or_else(|| parameters.raw_text("last_event_id"))
            .as_deref(),
    )
}
