//! Cross-origin requests (CORS).

use actix_cors::Cors;
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER,
};
use actix_web::http::{Method, Uri};
use config::Env;

/// Reads the origins whose pages may call; `None` means any.
#[must_use]
pub fn origins(env: &Env) -> Option<Vec<String>> {
    let origins = env.get_list(
        &["CORS_ALLOWED_ORIGINS"],
        "*",
        "Origins whose pages may call, such as https://app.example.com, separated by commas; * is any.",
    );
    if origins.iter().any(|origin| origin == "*") {
        return None;
    }
    for origin in &origins {
        let uri = origin.parse::<Uri>();
        let absolute = uri.is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some());
        // Nothing after the authority: a browser sends no path.
        if !absolute || origin.matches('/').count() != 2 {
            let expected = "* or origins such as https://app.example.com";
            env.complain("CORS_ALLOWED_ORIGINS", origin, expected);
        }
    }
    Some(origins)
}

/// The middleware for these origins, the same on every route that pages call. Pages of origins that
/// are named may send credentials: `navigator.sendBeacon` with `application/json` always does, and a
/// browser takes no `*` for an answer to that.
pub fn layer(origins: Option<&[String]>) -> Cors {
    let cors = match origins {
        None => Cors::default().allow_any_origin().send_wildcard(),
        Some(origins) => origins
            .iter()
            .fold(Cors::default(), |cors, origin| cors.allowed_origin(origin))
            .supports_credentials(),
    };
    cors.allowed_methods([
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ])
    .allowed_headers([
        ACCEPT,
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_TYPE,
        HeaderName::from_static("anonymousid"),
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("prefer"),
        HeaderName::from_static("traceparent"),
        // Segment's client for browsers sends it with whatever it sends again.
        HeaderName::from_static("x-retry-count"),
        crate::auth::credential::API_KEY,
        crate::request_id::HEADER,
    ])
    .expose_headers([crate::request_id::HEADER, RETRY_AFTER])
    .max_age(3600)
}
