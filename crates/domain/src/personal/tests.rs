use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;
use crate::envelope::Origin;
use crate::{Context, EventCategory, EventSource, Limits, TenantId};

fn event(data: &Value, context: &Value) -> Event {
    let body = json!({"event_type": "order.placed", "data": data, "context": context});
    let at = OffsetDateTime::UNIX_EPOCH;
    let cx = Context {
        origin: Origin::Http,
        tenant: &TenantId::default(),
        received_at: at,
        now: at,
        fresh_id: uuid::Uuid::from_u128(1),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    crate::decode(body.to_string().as_bytes(), &cx).unwrap()
}

fn applied(rules: &str, data: Value) -> Value {
    let rules = PersonalData::new(rules, Some(b"key"), false).unwrap();
    let mut event = event(&data, &json!({}));
    let changed = rules.apply(&mut event);
    let once = event.data.to_value();
    assert_eq!(changed, once != data, "{data}");
    assert!(!rules.apply(&mut event), "twice is once: {once}");
    once
}

#[test]
fn a_rule_drops_hashes_or_masks_what_its_path_names() {
    let data = json!({"email": "ada@example.org", "card": {"number": "4242424242424242"},
        "people": [{"email": "b@example.org", "age": 7}, "x"], "n": 1.50});
    let masked = applied("order.* data.card.number mask", data.clone());
    assert_eq!(masked["card"]["number"], "***4242");
    assert_eq!(masked["email"], data["email"]);
    let dropped = applied("** data.**.email drop", data.clone());
    let left = json!({"card": data["card"], "people": [{"age": 7}, "x"], "n": 1.50});
    assert_eq!(dropped, left);
    let hashed = applied("** data.people.*  hash", data.clone());
    let of = |value: &Value| value.as_str().unwrap().strip_prefix(HASHED).unwrap().len();
    assert_eq!(of(&hashed["people"][0]["email"]), 64);
    assert_eq!(of(&hashed["people"][0]["age"]), 64);
    assert_eq!(hashed["people"][1], "x");
    assert_eq!(
        applied("user.* data.email drop", data.clone()),
        data,
        "another type"
    );
    assert_eq!(
        applied(
            "** data.email drop\n# all\n\n** data.* mask",
            json!({"email": "x", "short": "abc", "o": {}})
        ),
        json!({"short": "***", "o": "***"})
    );
}

#[test]
fn a_hash_is_that_of_its_key_and_value() {
    let hashed = applied("** data.email hash", json!({"email": "ada@example.org"}));
    // printf ada@example.org | openssl dgst -sha256 -hmac key
    let by_openssl = "e7e8f78d42b4160369dc797e67eb041376b3e03a947677eb23d1053a78ea3b1a";
    assert_eq!(hashed["email"], format!("{HASHED}{by_openssl}"));
}

#[test]
fn a_wrong_rule_is_named_by_its_line() {
    for (rules, says) in [
        ("** data.email", "line 1: must be"),
        ("\n** data.email burn", "line 2: \"burn\""),
        ("** email drop", "must begin with"),
        ("** data drop", "must name a member"),
        ("** data.a..b drop", "empty step"),
        ("** data.** drop", "must not end"),
        ("** data.a hash", "line 1: hash needs a key"),
    ] {
        let error = PersonalData::new(rules, None, false).unwrap_err();
        assert!(error.contains(says), "{rules:?}: {error}");
    }
}

#[test]
fn addresses_lose_their_end_wherever_they_stand() {
    let mut event = event(
        &json!({"ip": "not one", "list": [{"client_ip": "2001:db8:1:2::3"}]}),
        &json!({"client_info": {"ip": "203.0.113.77"}, "$ip": "::ffff:203.0.113.9"}),
    );
    let rules = PersonalData::new("", None, true).unwrap();
    assert!(rules.apply(&mut event) && !rules.apply(&mut event));
    assert_eq!(
        event.data.to_value(),
        json!({"ip": "not one", "list": [{"client_ip": "2001:db8:1::"}]})
    );
    assert_eq!(
        event.context.to_value(),
        json!({"client_info": {"ip": "203.0.113.0"}, "$ip": "203.0.113.0"})
    );
}
