//! CloudEvents in binary mode, over HTTP and Kafka: the attributes are headers, the data is the body
//! (`cloudevents/spec`: `bindings/http-protocol-binding.md`, `bindings/kafka-protocol-binding.md`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::context::DecodeError;

/// The media type of an event that [`structured`] made.
pub const MEDIA_TYPE: &str = "application/cloudevents+json";

/// Any of these among the headers says that a body is an event in binary mode.
pub const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// The same event in structured mode, to be decoded as [`MEDIA_TYPE`]. `attributes` are the headers
/// without their prefix, decoded; `media_type` is that of the data: JSON is taken as it is, other
/// text as a string, everything else in base64.
///
/// # Errors
/// The data is declared as JSON and is none.
pub fn structured<'a>(
    attributes: impl Iterator<Item = (&'a str, Cow<'a, str>)>,
    media_type: Option<&str>,
    data: &[u8],
) -> Result<String, DecodeError> {
    let mut text = String::with_capacity(data.len() + 512);
    let mut member = |name: &str, value: &str| {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(&quoted(name));
        text.push(':');
        text.push_str(value);
    };
    for (name, value) in attributes {
        if !matches!(name, "data" | "data_base64" | "datacontenttype") {
            member(name, &quoted(&value));
        }
    }
    if let Some(media_type) = media_type {
        member("datacontenttype", &quoted(media_type));
    }
    if !data.is_empty() {
        let essence = media_type.unwrap_or_default().split(';').next();
        let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
        let json = essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json");
        let as_text = std::str::from_utf8(data).ok();
        if json {
            let data = data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(data);
            let value: &RawValue = serde_json::from_slice(data)
                .map_err(|error| DecodeError::Syntax(format!("the data is no JSON: {error}")))?;
            member("data", value.get());
        } else if let Some(data) = as_text.filter(|_| essence.starts_with("text/")) {
            member("data", &quoted(data));
        } else {
            member("data_base64", &quoted(&STANDARD.encode(data)));
        }
    }
    text.push(if text.is_empty() { '{' } else { ' ' });
    text.push('}');
    Ok(text)
}

/// A JSON string; writing one to memory cannot fail.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
