//! The credentials of a request.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::refusal::Refusal;

/// The header with an API key.
pub const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The credentials of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential {
    /// What can only be an API key.
    Key(String),
    /// A bearer token: an API key or a JWT.
    Bearer(String),
}

/// Reads them: `Authorization: Bearer`, `Authorization: Basic` with the key as user (as Segment's
/// clients send it) or `X-API-Key`. In no other place is anything looked for.
///
/// # Errors
/// They cannot be read, or there are several: which of them counts would be a guess.
pub fn read(headers: &HeaderMap) -> Result<Option<Credential>, Refusal> {
    const MALFORMED: Refusal = Refusal::Invalid("malformed");
    let mut given = headers
        .get_all(AUTHORIZATION)
        .chain(headers.get_all(API_KEY));
    let Some(first) = given.next() else {
        return Ok(None);
    };
    if given.next().is_some() {
        return Err(Refusal::Invalid("several"));
    }
    let text = first.to_str().map_err(|_| MALFORMED)?.trim();
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(Some(Credential::Key(text.to_owned())));
    }
    let (scheme, value) = text.split_once(' ').ok_or(MALFORMED)?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Credential::Bearer(value.to_owned())));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(MALFORMED);
    }
    let pair = STANDARD.decode(value).map_err(|_| MALFORMED)?;
    let pair = String::from_utf8(pair).map_err(|_| MALFORMED)?;
    let (user, _) = pair.split_once(':').unwrap_or((&pair, ""));
    Ok(Some(Credential::Key(user.to_owned())))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn credentials_are_read_from_three_places_and_one_at_a_time() {
        let key = |text: &str| Ok(Some(Credential::Key(text.to_owned())));
        let bearer = |text: &str| Ok(Some(Credential::Bearer(text.to_owned())));
        let invalid = |reason| Err(Refusal::Invalid(reason));
        for (headers, want) in [
            (&[][..], Ok(None)),
            (&[("x-api-key", "k")], key("k")),
            (&[("authorization", "Bearer t.t.t")], bearer("t.t.t")),
            (&[("authorization", "bearer k")], bearer("k")),
            (&[("authorization", "Basic azo=")], key("k")),
            (&[("authorization", "Basic aw==")], key("k")),
            (&[("authorization", "Basic ?")], invalid("malformed")),
            (&[("authorization", "k")], invalid("malformed")),
            (&[("authorization", "Digest k")], invalid("malformed")),
            (
                &[("x-api-key", "k"), ("authorization", "Bearer t")],
                invalid("several"),
            ),
            (
                &[("x-api-key", "k"), ("x-api-key", "l")],
                invalid("several"),
            ),
        ] {
            let mut request = TestRequest::default();
            for header in headers {
                request = request.append_header(*header);
            }
            let request = request.to_http_request();
            assert_eq!(read(request.headers()), want, "{headers:?}");
        }
    }
}
