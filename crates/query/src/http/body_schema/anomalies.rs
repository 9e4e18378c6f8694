//! The bodies about anomalies, as [`domain::anomaly::Rule`] reads them.

use domain::EventSource;
use serde_json::{Value, json};

use crate::http::schema_parts::{closed, nullable, of, printed};

/// Says of the two bodies what is accepted; their descriptions stay.
pub(super) fn narrow(schemas: &mut Value) {
    let mut trial = schemas["AnomalyRuleRequest"].clone();
    trial["properties"]["days"] = json!({
        "description": "How many days back.", "type": ["integer", "null"],
        "minimum": 1, "maximum": 35, "default": 7,
    });
    for (name, mut body, required) in [
        (
            "AnomalyRuleRequest",
            schemas["AnomalyRuleRequest"].take(),
            ["name", "kind"].as_slice(),
        ),
        ("AnomalyRuleChange", trial.clone(), &["kind"]),
        ("AnomalyTrialRequest", trial, &["kind"]),
    ] {
        rule(&mut body);
        let members = body["properties"].as_object_mut();
        match (name, members) {
            // Its name is that of the path.
            ("AnomalyRuleChange", Some(members)) => {
                members.remove("days");
                members.remove("name");
            }
            ("AnomalyTrialRequest", Some(members)) => {
                let name = members.get_mut("name").map(Value::take);
                members.extend(name.map(|name| ("name".to_owned(), nullable(name))));
            }
            _ => {}
        }
        body["required"] = json!(required);
        schemas[name] = json!({"allOf": [body, {"oneOf": by_kind()}]});
    }
}

fn rule(body: &mut Value) {
    let sources: Vec<&str> = EventSource::ALL.iter().map(|one| one.as_str()).collect();
    let list = |items: Value| json!({"type": ["array", "null"], "maxItems": 100, "items": items});
    let whole = |most: i64| json!({"type": ["integer", "null"], "minimum": 1, "maximum": most});
    for (name, schema) in [
        ("name", printed(100)),
        ("event_types", list(printed(255))),
        ("error_types", list(printed(255))),
        (
            "event_sources",
            list(json!({"type": "string", "enum": sources})),
        ),
        ("min_events", whole(1_000_000_000)),
        ("window_minutes", whole(60)),
        ("resolve_minutes", whole(1_440)),
        ("user_id", nullable(printed(255))),
    ] {
        of(body, name, schema);
    }
    closed(body);
}

/// What goes with each kind of rule.
fn by_kind() -> [Value; 3] {
    [
        (
            "error_rate",
            0.0,
            1.0,
            vec![json!("source"), json!("api"), json!("type"), Value::Null],
        ),
        ("surge", 1.1, 1_000.0, vec![json!("source"), Value::Null]),
        ("silence", 0.0, 0.9, vec![json!("source"), Value::Null]),
    ]
    .map(|(kind, least, most, by)| {
        json!({"type": "object", "properties": {
            "kind": {"type": "string", "enum": [kind]},
            "by": {"type": ["string", "null"], "enum": by},
            "threshold": {"type": ["number", "null"], "minimum": least, "maximum": most},
        }})
    })
}
