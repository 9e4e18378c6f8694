//! The one normaliser: whatever envelope a record or body has, an [`Event`] or an exact complaint
//! comes out (C16).

pub mod binary;
mod bus;
mod cloudevents;
mod context;
mod domain_event;
mod frontend;
mod native;
mod reader;
pub mod segment;

use std::fmt;

use time::{Duration, OffsetDateTime, UtcOffset};

use crate::event::Event;
use crate::field::{Code, FieldError};
use crate::json::{Members, ScanError, Scanned, scanned};
use crate::{stream, timestamp};
pub use context::{Context, DecodeError, Origin};
use reader::Reader;

/// Reads one event from the bytes of a record or body.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8], cx: &Context<'_>) -> Result<Event, DecodeError> {
    check_size(bytes.len(), cx)?;
    // A byte order mark is no part of the text (RFC 8259, section 8.1).
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        DecodeError::Syntax(format!("invalid UTF-8 at byte {}", error.valid_up_to()))
    })?;
    decode_text(text, cx)
}

/// Reads one event from a JSON text, for instance one element of a batch.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_text(text: &str, cx: &Context<'_>) -> Result<Event, DecodeError> {
    check_size(text.len(), cx)?;
    let cx = &Context {
        received_at: timestamp::to_micros(cx.received_at.to_offset(UtcOffset::UTC)),
        now: timestamp::to_micros(cx.now.to_offset(UtcOffset::UTC)),
        ..*cx
    };
    let max_depth = cx.limits.max_json_depth.min(DEEPEST);
    let wrapped = if cx.origin == Origin::Log { WRAPPED } else { 0 };
    let scanned = checked(text, max_depth + wrapped)?;
    let text = &*scanned.text;
    let members = scanned.members().ok_or_else(|| {
        let hint = if text.trim_start().starts_with('[') {
            "must be one event (an object), not an array"
        } else {
            "must be an object"
        };
        DecodeError::Fields(vec![FieldError::new("", Code::WrongType, hint)])
    })?;
    let mut reader = Reader::new(members);
    let envelope = envelope(&reader, cx.origin, cx.content_type);
    let native = matches!(envelope, Envelope::Native);
    if scanned.depth > max_depth && !native {
        // Only the canonical form has been wrapped; say where this one is too deep.
        checked(text, max_depth)?;
    }
    let event = match envelope {
        Envelope::Frontend => frontend::read(&mut reader, cx),
        Envelope::Native => native::read(&mut reader, cx),
        Envelope::Payload => domain_event::read_payload(&mut reader, cx),
        Envelope::Generic => domain_event::read_generic(&mut reader, cx),
        Envelope::Bus => bus::read(&mut reader, cx),
        Envelope::CloudEvent => cloudevents::read(&mut reader, cx),
        Envelope::Segment => segment::read(&mut reader, cx),
    };
    let taken_before =
        native && cx.origin == Origin::Log && reader.members().get("received_at").is_some();
    check_time(&event, &mut reader, cx, taken_before);
    if event.expected_version.is_some() && stream::explicit_id(&event).is_none() {
        let message = "needs aggregate_type and aggregate_id, whose stream has versions";
        reader.complain("expected_version", Code::Missing, message);
    }
    let errors = reader.into_errors();
    if errors.is_empty() {
        Ok(event)
    } else {
        Err(DecodeError::Fields(errors))
    }
}

/// What the gateway wraps (an attribute into `context`, a lone value into `data`) stands deeper on
/// the log than it stood at the door, by at most so much, and must not be refused there.
const WRAPPED: usize = 4;

/// No configuration allows more: what reads the stored JSON into a tree stops at 128.
const DEEPEST: usize = 100;

fn checked(text: &str, max_depth: usize) -> Result<Scanned<'_>, DecodeError> {
    scanned(text, max_depth).map_err(|error| match error {
        ScanError::Syntax { .. } => DecodeError::Syntax(error.to_string()),
        ScanError::Field(field) => DecodeError::Fields(vec![field]),
    })
}

enum Envelope {
    Frontend,
    Native,
    Payload,
    Generic,
    Bus,
    CloudEvent,
    Segment,
}

/// Whether a media type says that the body is CloudEvents, structured or a batch.
#[must_use]
pub fn is_cloudevents(media_type: &str) -> bool {
    const CLOUDEVENTS: &[u8] = b"application/cloudevents";
    let start = media_type.trim_start().as_bytes().get(..CLOUDEVENTS.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(CLOUDEVENTS))
}

/// The name of the member from which an event without an id of its own would take one; `None` if
/// it has one, or is no object. `text` is a body as a backend sends it.
#[must_use]
pub fn missing_id(text: &str) -> Option<&'static str> {
    let reader = Reader::new(Members::split(text)?);
    let (name, aliases): (_, &[_]) = match envelope(&reader, Origin::Http, None) {
        Envelope::Bus => (bus::IDS[0], &bus::IDS),
        Envelope::CloudEvent => ("id", &["id"]),
        Envelope::Segment => ("messageId", &["messageId"]),
        _ => ("event_id", &["event_id"]),
    };
    let own = reader.any(aliases);
    // Of what is no text the service says so itself.
    let own = own.is_some_and(|(_, raw)| reader::string(raw).is_none_or(|id| is_id(id.trim())));
    (!own).then_some(name)
}

/// Neither empty nor the nil UUID.
fn is_id(text: &str) -> bool {
    !text.is_empty() && !uuid::Uuid::try_parse(text).is_ok_and(|id| id.is_nil())
}

/// Tells the envelopes apart by the keys that only one of them has. A null counts as absent, for
/// some senders write every field they know.
fn envelope(reader: &Reader<'_>, origin: Origin, media_type: Option<&str>) -> Envelope {
    let set = |key| reader.members().get(key).is_some();
    let named = set("event_type");
    if origin == Origin::Frontend {
        Envelope::Frontend
    } else if media_type.is_some_and(is_cloudevents) || set("specversion") {
        Envelope::CloudEvent
    } else if media_type == Some(segment::MEDIA_TYPE) || (!named && segment::is_message(reader)) {
        Envelope::Segment
    } else if named && set("data") {
        Envelope::Native
    } else if set("event_data") {
        Envelope::Generic
    } else if set("payload") {
        Envelope::Payload
    } else if set("occurred_at") {
        Envelope::Generic
    } else if !named && (reader.members().has("type") || nameless(reader, origin)) {
        Envelope::Bus
    } else {
        Envelope::Native
    }
}

/// A bus map may lack its `type` (S4-57); only on the log: over HTTP that is a complaint.
fn nameless(reader: &Reader<'_>, origin: Origin) -> bool {
    let has = |key| reader.members().has(key);
    origin == Origin::Log && has("id") && has("source") && !has("event_type")
}

fn check_size(bytes: usize, cx: &Context<'_>) -> Result<(), DecodeError> {
    let limit = cx.limits.max_event_bytes;
    if bytes > limit {
        Err(DecodeError::TooLarge { bytes, limit })
    } else {
        Ok(())
    }
}

/// A gateway's clock further ahead than this is no clock.
const ABSURD: Duration = Duration::days(366);

/// Absurd times are refused, so that no client's clock decides which partitions exist: once, at the
/// door that took the event, by that door's clock. On the log, what a gateway has taken is judged by
/// its word for the receipt alone: clocks differ.
fn check_time(event: &Event, reader: &mut Reader<'_>, cx: &Context<'_>, taken_before: bool) {
    let seconds = cx.limits.max_future_seconds;
    let mut taken_at = cx.now;
    if taken_before {
        taken_at = event.received_at;
        bound(
            reader,
            ("received_at", event.received_at),
            cx.now.saturating_add(ABSURD),
            format_args!("lies more than a year ahead"),
        );
    }
    if event.timestamp != event.received_at {
        bound(
            reader,
            ("timestamp", event.timestamp),
            taken_at.saturating_add(Duration::seconds(seconds)),
            format_args!("lies more than {seconds} seconds after the time of receipt"),
        );
    }
}

fn bound(
    reader: &mut Reader<'_>,
    (field, at): (&str, OffsetDateTime),
    latest: OffsetDateTime,
    too_late: fmt::Arguments<'_>,
) {
    if reader.complained(field) {
        // Unreadable; what stands in for it is nobody's mistake.
    } else if at > latest {
        reader.complain(field, Code::OutOfRange, too_late.to_string());
    } else if at < OffsetDateTime::UNIX_EPOCH {
        reader.complain(field, Code::OutOfRange, "lies before 1970-01-01T00:00:00Z");
    }
}

#[cfg(test)]
mod tests;
