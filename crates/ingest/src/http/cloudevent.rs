//! CloudEvents in binary mode: attributes in `ce-` headers, data in the body
//! (`cloudevents/spec`: `bindings/http-protocol-binding.md`, 3.1).

use std::borrow::Cow;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use domain::Code;
use domain::envelope::{binary, is_cloudevents};
use percent_encoding::percent_decode;

use super::refusal::Refusal;
use super::route::Route;
use crate::accept::Refused;

const PREFIX: &str = "ce-";

/// Whether the headers are those of an event in binary mode; a body that is declared to be
/// CloudEvents is not.
pub(crate) fn is_binary(headers: &HeaderMap) -> bool {
    let declared = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    // Of every post: a look at its few headers, rather than one for each attribute.
    let is_attribute = |name: &str| binary::REQUIRED.contains(&name);
    let mut names = headers
        .keys()
        .filter_map(|name| name.as_str().strip_prefix(PREFIX));
    names.any(is_attribute) && !declared.is_some_and(is_cloudevents)
}

/// Refuses the routes that do not take one event of a backend.
pub(crate) fn check_route(route: Route) -> Result<(), Refusal> {
    if matches!(route, Route::Events | Route::Create) {
        return Ok(());
    }
    let path = Route::Create.paths()[0];
    Err(refuse(
        "ce-specversion",
        Code::IllegalValue,
        &format!("a CloudEvent in binary mode is one event; send it to {path}"),
    ))
}

/// The same event in structured mode.
pub(crate) fn structured(headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mut attributes = Vec::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix(PREFIX) {
            let unquoted = unquoted(value.as_bytes());
            let text = percent_decode(&unquoted).decode_utf8();
            let text = text.map_err(|_| refuse(name.as_str(), Code::BadFormat, "must be UTF-8"))?;
            attributes.push((attribute, Cow::Owned(text.into_owned())));
        }
    }
    binary::structured(attributes.into_iter(), media_type, body)
        .map_err(|error| Refusal::Content(error.into()))
}

/// A value in double quotes without them and its escapes (RFC 7230, 3.2.6); others as they are.
fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
    else {
        return value.into();
    };
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        plain.extend(if *byte == b'\\' {
            bytes.next()
        } else {
            Some(byte)
        });
    }
    plain.into()
}

fn refuse(path: &str, code: Code, message: &str) -> Refusal {
    Refusal::Content(Refused::field(path, code, message))
}

#[cfg(test)]
mod tests {
    use super::unquoted;

    #[test]
    fn quotes_and_their_escapes_go() {
        for (value, want) in [
            ("a b", "a b"),
            ("\"a \\\"b\\\\\"", "a \"b\\"),
            ("\"", "\""),
            ("\"\"", ""),
            ("a\"b\"", "a\"b\""),
        ] {
            assert_eq!(unquoted(value.as_bytes()), want.as_bytes(), "{value}");
        }
    }
}
