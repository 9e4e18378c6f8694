//! The messages of Segment's and RudderStack's clients.

use super::*;

const SPELLED: &str = "node-next-1795869602563-b2f6";

fn track() -> Value {
    json!({
        "type": "track", "event": "Order Completed", "messageId": SPELLED,
        "userId": "u-1", "anonymousId": "a-1", "properties": {"total": 12.5},
        "context": {"ip": "203.0.113.7"}, "integrations": {"All": true}, "writeKey": "wk",
        "timestamp": "2024-05-01T11:59:00Z", "originalTimestamp": "2024-05-01T11:59:00Z",
        "sentAt": "2024-05-01T12:00:00Z",
    })
}

#[test]
fn every_field_finds_its_place() {
    for origin in [Origin::Http, Origin::Log] {
        let event = accepted(origin, &track());
        assert_eq!(event.event_type, "Order Completed");
        assert_eq!(event.event_source, EventSource::Frontend);
        assert_eq!(event.event_category, EventCategory::UserAction);
        assert_eq!(event.client_event_id.as_deref(), Some(SPELLED));
        assert_eq!(event.user_id.as_deref(), Some("u-1"));
        assert_eq!(event.timestamp, datetime!(2024-05-01 11:59 UTC));
        assert_eq!(
            event.data.to_value(),
            json!({"type": "track", "properties": {"total": 12.5}})
        );
        assert_eq!(event.context.to_value(), json!({"ip": "203.0.113.7"}));
        assert_eq!(
            event.metadata.to_value(),
            json!({
                "anonymous_id": "a-1", "sent_at": "2024-05-01T12:00:00Z",
                "original_timestamp": "2024-05-01T11:59:00Z",
            })
        );
    }
}

#[test]
fn calls_without_a_name_are_named_by_the_call() {
    for (call, more, category) in [
        ("page", json!({"name": "Home"}), EventCategory::PageView),
        (
            "identify",
            json!({"traits": {"a": 1}}),
            EventCategory::UserAction,
        ),
        ("screen", json!({"name": "Cart"}), EventCategory::UserAction),
        (
            "group",
            json!({"groupId": "g", "traits": {}}),
            EventCategory::UserAction,
        ),
        (
            "alias",
            json!({"previousId": "a"}),
            EventCategory::UserAction,
        ),
    ] {
        let mut message = more.clone();
        message["type"] = json!(call);
        let data = message.clone();
        message["anonymousId"] = json!("a-1");
        let event = accepted(Origin::Http, &message);
        assert_eq!(
            (event.event_type.as_str(), event.event_category),
            (call, category)
        );
        // Who it is, as far as is known.
        assert_eq!(event.user_id.as_deref(), Some("a-1"));
        assert_eq!((event.data.to_value(), event.event_id), (data, FRESH));
    }
}

#[test]
fn a_tracks_name_tells_its_category() {
    for (name, category) in [
        ("Contact FORM Clicked", EventCategory::FormSubmit),
        ("button_Click", EventCategory::Click),
        ("Player Create", EventCategory::UserAction),
    ] {
        let event = accepted(Origin::Http, &with(&track(), "event", json!(name)));
        assert_eq!(event.event_category, category, "{name}");
    }
}

#[test]
fn a_senders_clock_is_set_right_in_whole_minutes() {
    let at = |sent_at: &str| accepted(Origin::Http, &with(&track(), "sentAt", json!(sent_at)));
    for (sent_at, want) in [
        // Some seconds are the way to us.
        ("2024-05-01T11:59:40Z", datetime!(2024-05-01 11:59 UTC)),
        // An hour slow, however long the way.
        ("2024-05-01T11:00:00Z", datetime!(2024-05-01 12:59 UTC)),
        ("2024-05-01T11:00:00.4Z", datetime!(2024-05-01 12:59 UTC)),
    ] {
        assert_eq!(at(sent_at).timestamp, want, "{sent_at}");
    }
    // Years fast, as its own clock says.
    let fast = with(&track(), "timestamp", json!("2034-05-01T11:59:00Z"));
    let fast = with(&fast, "sentAt", json!("2034-05-01T12:00:00.5Z"));
    assert_eq!(
        accepted(Origin::Http, &fast).timestamp,
        datetime!(2024-05-01 11:59 UTC)
    );
    // What lay on the log is no later for it, unless it says itself when it arrived.
    let late = with(&track(), "sentAt", json!("2024-05-01T09:00:00Z"));
    let event = accepted(Origin::Log, &late);
    assert_eq!(event.timestamp, datetime!(2024-05-01 11:59 UTC));
    let event = accepted(
        Origin::Log,
        &with(&late, "receivedAt", json!("2024-05-01T10:00:00Z")),
    );
    assert_eq!(event.timestamp, datetime!(2024-05-01 12:59 UTC));
}

#[test]
fn a_time_that_a_service_before_us_set_right_stays() {
    // An archive, or RudderStack's webhook: the client's clock was an hour slow.
    let archived = with(&track(), "originalTimestamp", json!("2024-05-01T10:59:00Z"));
    let archived = with(&archived, "sentAt", json!("2024-05-01T11:00:00Z"));
    let archived = with(&archived, "receivedAt", json!("2024-05-01T12:00:00Z"));
    for origin in [Origin::Http, Origin::Log] {
        let event = accepted(origin, &archived);
        assert_eq!(event.timestamp, datetime!(2024-05-01 11:59 UTC));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let table = [
        ("event", json!(""), Code::IllegalValue),
        ("userId", json!(7), Code::WrongType),
        ("properties", json!([]), Code::WrongType),
        ("traits", json!("x"), Code::WrongType),
        ("context", json!(1), Code::WrongType),
        ("timestamp", json!("soon"), Code::BadFormat),
        ("sentAt", json!(17), Code::WrongType),
        ("messageId", json!({}), Code::WrongType),
    ];
    refuses_each(Origin::Http, &track(), &table);
    refuses_all(Origin::Http, &track(), &table);
    // Declared to be a message, it has to be one.
    let cx = Context {
        content_type: Some(crate::envelope::segment::MEDIA_TYPE),
        ..context(Origin::Http)
    };
    let refused = decode_text(r#"{"type":"tracked"}"#, &cx);
    let Err(DecodeError::Fields(errors)) = refused else {
        panic!("{refused:?}");
    };
    let paths: Vec<_> = errors.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["type", "userId"]);
}

#[test]
fn nothing_else_is_taken_for_a_message() {
    for body in [
        json!({"type": "page", "id": "1", "source": "cms", "data": {}}),
        json!({"type": "tracked", "userId": "u"}),
        json!({"type": "track", "event_type": "a", "data": {}, "userId": "u"}),
    ] {
        let event = accepted(Origin::Http, &body);
        assert_eq!(event.event_source, EventSource::Backend, "{body}");
    }
}
