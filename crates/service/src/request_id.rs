//! Request ids: taken from `X-Request-Id` or made, returned, and logged with failures.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage};

/// The header.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, in its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub HeaderValue);

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// The middleware: `App::new().wrap(from_fn(request_id))`. Logs each request at DEBUG, and those
/// with status 500 at WARN. A 503 means that a dependency is down, which the metrics and /ready show;
/// one line for each would flood the log.
///
/// # Errors
/// The errors of the wrapped service.
pub async fn request_id<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let given = request
        .headers()
        .get(&HEADER)
        .filter(|value| is_valid(value.as_bytes()));
    let id = match given {
        Some(value) => value.clone(),
        None => fresh(),
    };
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = match next.call(request).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = error.error_response();
            response.headers_mut().insert(HEADER, id);
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
    response.headers_mut().insert(HEADER, id);
    Ok(response)
}

fn is_valid(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

fn fresh() -> HeaderValue {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = uuid::Uuid::now_v7().simple().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn only_plain_ids_are_accepted() {
        assert!(is_valid(b"abc-1.2_3:4"));
        for bad in [b"".as_slice(), b"a b", b"a\"b", &[b'a'; 129]] {
            assert!(!is_valid(bad));
        }
    }
}
