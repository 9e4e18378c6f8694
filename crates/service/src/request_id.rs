//! Request ids: taken from `X-Request-Id` or made; [`crate::around`] answers and logs them.

use actix_web::HttpMessage;
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderName, HeaderValue};

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

/// The id of a request: its own, or a new one. It is left with the request.
pub(crate) fn of(request: &ServiceRequest) -> HeaderValue {
    let given = request.headers().get(&HEADER);
    let given = given.filter(|value| is_valid(value.as_bytes()));
    let id = given.cloned().unwrap_or_else(fresh);
    request.extensions_mut().insert(RequestId(id.clone()));
    id
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
