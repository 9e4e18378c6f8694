//! The messages of Segment's and RudderStack's clients (S4-54 to S4-56).

use time::{Duration, OffsetDateTime};

use crate::category::EventCategory;
use crate::event::{Event, EventSource};
use crate::field::Code;
use crate::id::Space;
use crate::json::{Json, Members};

use super::context::{Context, Origin};
use super::reader::{Reader, string};

/// Declares a body to be such a message, whatever it looks like.
pub const MEDIA_TYPE: &str = "application/vnd.segment.message";

/// The calls that these clients have.
pub const CALLS: [&str; 6] = ["track", "identify", "page", "screen", "group", "alias"];

/// What of a message becomes `data`, where it is there.
const DATA: [&str; 7] = [
    "type",
    "properties",
    "traits",
    "name",
    "category",
    "groupId",
    "previousId",
];

/// Clocks that differ by less are right: the rest is the way to us.
const CLOCKS_DIFFER: Duration = Duration::minutes(1);

/// Whether it looks like one: a call's name, and one of the ids that no other envelope has.
pub(super) fn is_message(reader: &Reader<'_>) -> bool {
    let members = reader.members();
    let id = ["messageId", "userId", "anonymousId"];
    id.iter().any(|key| members.get(key).is_some()) && call(members).is_some()
}

pub(super) fn read(r: &mut Reader<'_>, cx: &Context<'_>) -> Event {
    let call = call(r.members());
    if call.is_none() {
        let message = format!("must be one of {}", CALLS.join(", "));
        r.complain("type", Code::IllegalValue, message);
    }
    let call = call.unwrap_or_default();
    // A sender of such messages is a client, by whatever way they come.
    let (event_id, client_event_id) = r.event_id_in(Space::Frontend, &["messageId"], cx.tenant, cx);
    // Some clients send an empty one with every call.
    let blank = |raw| string(raw).is_some_and(|text| text.trim().is_empty());
    let named = match r.members().get("event") {
        None => false,
        Some(raw) => call == "track" || !blank(raw),
    };
    let event_type = match (named, call) {
        (false, "track") => r.event_type("event"),
        (false, call) => call.to_owned(),
        (true, _) => r.event_type("event"),
    };
    let (user_id, anonymous_id) = (r.text(&["userId"]), r.text(&["anonymousId"]));
    if user_id.is_none() && anonymous_id.is_none() && !r.complained("userId") {
        let message = "userId or anonymousId is required";
        r.complain("userId", Code::Missing, message);
    }
    let data = data(r);
    let metadata = [
        ("anonymous_id", "anonymousId"),
        ("sent_at", "sentAt"),
        ("received_at", "receivedAt"),
        ("original_timestamp", "originalTimestamp"),
    ];
    let metadata = metadata
        .iter()
        .filter_map(|(name, key)| Some((*name, r.members().get(key)?)))
        .fold(Json::default(), |json, (name, raw)| json.with(name, raw));
    Event {
        event_id,
        client_event_id,
        tenant_id: cx.tenant.clone(),
        event_source: EventSource::Frontend,
        event_category: category(call, &event_type),
        event_type,
        user_id: user_id.or(anonymous_id),
        session_id: None,
        organization_id: None,
        device_id: None,
        correlation_id: None,
        aggregate_type: None,
        aggregate_id: None,
        expected_version: None,
        data,
        metadata,
        context: r.object("context"),
        properties: Json::default(),
        timestamp: happened(r, cx),
        received_at: cx.received_at,
        version: "1.0.0".to_owned(),
        schema_version: "1.0.0".to_owned(),
    }
}

fn call(members: &Members<'_>) -> Option<&'static str> {
    let raw = members.get("type")?.get();
    let text = raw.strip_prefix('"')?.strip_suffix('"')?;
    CALLS.into_iter().find(|call| *call == text)
}

fn data(r: &mut Reader<'_>) -> Json {
    for key in ["properties", "traits"] {
        // Complains where it is no object.
        r.object(key);
    }
    Json::from(&r.members().clone().without(|key| !DATA.contains(&key)))
}

/// S4-56, whatever the case.
fn category(call: &str, event_type: &str) -> EventCategory {
    let lower = event_type.to_lowercase();
    match call {
        "page" => EventCategory::PageView,
        "track" if lower.contains("form") => EventCategory::FormSubmit,
        "track" if lower.contains("click") => EventCategory::Click,
        _ => EventCategory::UserAction,
    }
}

/// When it happened by our clock: `sentAt` says what the sender's clock showed when the message went
/// off. The difference counts in whole minutes, so that a message that is sent again keeps its time.
fn happened(r: &mut Reader<'_>, cx: &Context<'_>) -> OffsetDateTime {
    let (sent_at, arrived) = (r.time(&["sentAt"]), r.time(&["receivedAt"]));
    let (own, original) = (r.time(&["timestamp"]), r.time(&["originalTimestamp"]));
    let Some(time) = own.or(original) else {
        return cx.received_at;
    };
    let passed = r.members().get("receivedAt").is_some();
    if passed && own.is_some() && original.is_some() && own != original {
        // The service that received it before us set it right already.
        return time;
    }
    // A record on the log may lie there for long: only the message itself knows when it arrived.
    let arrived = arrived.or((cx.origin != Origin::Log).then_some(cx.received_at));
    let (Some(sent_at), Some(arrived)) = (sent_at, arrived) else {
        return time;
    };
    let minutes = (arrived - sent_at).whole_minutes();
    if minutes.abs() < CLOCKS_DIFFER.whole_minutes() {
        return time;
    }
    time.checked_add(Duration::minutes(minutes)).unwrap_or(time)
}
