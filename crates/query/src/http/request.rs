//! What every handler reads of a request: whose events it is about, and the body of a question.

use std::time::Duration;

use actix_web::http::header::CONTENT_ENCODING;
use actix_web::{HttpMessage, HttpRequest, web};
use domain::TenantId;
use domain::field::Code;
use service::Problem;
use service::auth::Principal;
use store::event_reads::Filter;

use crate::parameters::Parameters;

/// Bytes of a request body.
const MAX_BODY: usize = 256 * 1024;
/// How long a request body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Whose events a request is about.
pub(super) fn tenant(request: &HttpRequest) -> TenantId {
    Principal::of(request).tenant.clone()
}

/// Leaves a user no events but the user's own (S4-114).
///
/// # Errors
/// 403 where the filter is about another's.
pub(super) fn own(request: &HttpRequest, filter: &mut Filter) -> Result<(), Problem> {
    let who = Principal::of(request);
    if let Some(owner) = who.owner() {
        match &filter.user_id {
            Some(other) if other != owner => return Err(Problem::forbidden()),
            _ => filter.user_id = Some(owner.to_owned()),
        }
    }
    Ok(())
}

/// Keeps a user from what is about another.
///
/// # Errors
/// 403, whether it exists or not.
pub(super) fn only_about(request: &HttpRequest, user: Option<&str>) -> Result<(), Problem> {
    if Principal::of(request).may_be_about(user) {
        Ok(())
    } else {
        Err(Problem::forbidden())
    }
}

/// The tenant that who administers is kept to; `None` for those of all.
pub(super) fn within(request: &HttpRequest) -> Option<TenantId> {
    let who = Principal::of(request);
    (!who.is_operator()).then(|| who.tenant.clone())
}

/// The tenant that is named, else the own one; what is no name is noted in `parameters`.
///
/// # Errors
/// 403 for one that who asks may not name.
pub(super) fn named_tenant(
    parameters: &mut Parameters<'_>,
    request: &HttpRequest,
) -> Result<TenantId, Problem> {
    let who = Principal::of(request);
    let Some(name) = parameters.text("tenant") else {
        return Ok(who.tenant.clone());
    };
    match TenantId::parse(&name) {
        Some(tenant) if tenant == who.tenant || who.is_operator() => Ok(tenant),
        Some(_) => Err(Problem::forbidden()),
        None => {
            let message = format!("must be {}", TenantId::FORM);
            parameters.refuse("tenant", Code::BadFormat, message);
            Ok(who.tenant.clone())
        }
    }
}

/// Reads the body of a question.
pub(super) async fn body(
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<web::Bytes, Problem> {
    let kind = request.content_type();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let json = essence.is_empty()
        || essence.eq_ignore_ascii_case("text/plain")
        || essence.to_ascii_lowercase().ends_with("json");
    if !json {
        return Err(Problem::unsupported_media_type(format!(
            "Content-Type {essence} is not supported; use application/json"
        )));
    }
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Problem::unsupported_media_type(
            "Send the question without Content-Encoding",
        ));
    }
    match tokio::time::timeout(BODY_TIMEOUT, payload.to_bytes_limited(MAX_BODY)).await {
        Err(_) => Err(Problem::timeout("The body came too slowly")),
        Ok(Err(_)) => Err(Problem::too_large(format!(
            "The body is larger than {MAX_BODY} bytes"
        ))),
        Ok(Ok(Err(error))) => Err(Problem::bad_request(format!(
            "The body could not be read: {error}"
        ))),
        Ok(Ok(Ok(bytes))) => Ok(bytes),
    }
}
