//! What is around every handler: the request's id and its line in the log, the answer to a panic, and
//! the security headers. One middleware, as each allocates and moves the handler's future.

use std::panic::AssertUnwindSafe;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::middleware::Next;
use futures_util::FutureExt as _;

use crate::problem::Problem;
use crate::request_id;

/// What keeps a browser from making more of an answer than it is.
const SECURITY: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];
/// The policy of what is no page.
const POLICY: HeaderValue = HeaderValue::from_static("frame-ancestors 'none'");

/// The middleware: `App::new().wrap(from_fn(around))`. A handler that panics is answered 500 (S4-128,
/// S4-131): the client need not wait, and the process goes on. Logs each request at DEBUG, and those
/// with status 500 at WARN. A 503 means that a dependency is down, which the metrics and /ready show;
/// one line for each would flood the log.
///
/// # Errors
/// The errors of the wrapped service.
pub(crate) async fn around<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let id = request_id::of(&request);
    let answer = AssertUnwindSafe(next.call(request)).catch_unwind().await;
    let answer = answer.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(Problem::internal(&text.unwrap_or("a panic")).into())
    });
    let mut response = match answer {
        Ok(response) => response,
        Err(error) => {
            let mut response = error.error_response();
            add_headers(response.headers_mut(), id);
            return Err(InternalError::from_response(error, response).into());
        }
    };
    let status = response.status();
    let failed = status == StatusCode::INTERNAL_SERVER_ERROR;
    if failed || tracing::enabled!(tracing::Level::DEBUG) {
        let (request, id) = (response.request(), id.to_str().unwrap_or_default());
        let (method, path) = (request.method().as_str(), request.path());
        let status = status.as_u16();
        if failed {
            tracing::warn!(request_id = id, method, path, status, "request failed");
        } else {
            tracing::debug!(request_id = id, method, path, status, "request");
        }
    }
    add_headers(response.headers_mut(), id);
    Ok(response)
}

/// Adds the id and the security headers; a page has a policy of its own.
fn add_headers(headers: &mut HeaderMap, id: HeaderValue) {
    for (name, value) in SECURITY {
        headers.insert(name, value);
    }
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    }
    headers.insert(request_id::HEADER, id);
}
