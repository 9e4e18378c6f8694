//! Topics, subjects, keys and streams of what was read.

use super::*;
use crate::{stream, subject};

fn event(body: Value) -> Event {
    accepted(
        Origin::Http,
        &with(&body, "event_type", json!("order.created")),
    )
}

#[test]
fn the_topic_follows_source_and_category_and_gives_them_back() {
    for (category, topic) in [
        ("user_interaction", subject::USER_INTERACTION),
        ("business_action", subject::BUSINESS_ACTION),
        ("system_event", subject::SYSTEM_EVENT),
    ] {
        let front = accepted(
            Origin::Frontend,
            &json!({"event_type": "x", "category": category}),
        );
        assert_eq!(subject::topic(&front), topic);
        assert_eq!(
            subject::defaults(topic),
            (front.event_source, front.event_category)
        );
        assert_eq!(subject::subject(&front), format!("{topic}.x"));
        // The frontend's topics are the frontend's.
        let back = event(json!({"event_category": category}));
        assert_eq!(subject::topic(&back), subject::BACKEND);
    }
    let odd = event(json!({"event_source": "frontend", "event_category": "order"}));
    assert_eq!(subject::topic(&odd), subject::BACKEND);
    for other in [subject::BACKEND, "genesis.domain.events", ""] {
        assert_eq!(
            subject::defaults(other),
            (EventSource::Backend, EventCategory::UserAction)
        );
    }
}

#[test]
fn a_subject_has_plain_characters_only() {
    for (event_type, want) in [
        ("user.logout", "user.logout"),
        ("Order Created", "Order_Created"),
        ("a:b/c@d+e#f", "a_b_c_d_e_f"),
        ("订单.x", "__.x"),
        ("a-b_c", "a-b_c"),
    ] {
        let event = accepted(Origin::Http, &json!({"event_type": event_type}));
        assert_eq!(
            subject::subject(&event),
            format!("events.backend.service.{want}")
        );
    }
}

#[test]
fn the_key_is_the_most_telling_id() {
    for (body, stream_id, key) in [
        (
            json!({"aggregate_type": "order", "aggregate_id": "7:b", "user_id": "u"}),
            Some("order:7:b"),
            "order:7:b",
        ),
        (
            json!({"aggregate_id": "7", "user_id": "u"}),
            Some("user:u"),
            "user:u",
        ),
        (
            json!({"aggregate_type": "order", "user_id": "u"}),
            Some("user:u"),
            "user:u",
        ),
        (json!({"aggregate_id": "7", "session_id": "s"}), None, "7"),
        (
            json!({"session_id": "s", "device_id": "d"}),
            None,
            "session:s",
        ),
        (json!({"device_id": "d"}), None, "device:d"),
        (json!({"event_id": A_UUID}), None, A_UUID),
    ] {
        let event = event(body);
        assert_eq!(stream::stream_id(&event).as_deref(), stream_id);
        assert_eq!(stream::log_key(&event), key);
    }
}
