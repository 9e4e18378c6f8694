//! The bodies that define or ask for something, as `/openapi.json` describes them: what the readers of
//! the domain take, no more and no less, as far as JSON Schema can say it.

mod anomalies;

use domain::processor::{MAX_CONCURRENCY, MAX_TIMEOUT_SECONDS, MAX_URL};
use domain::retry::{MAX_BACKOFF_SECONDS, MAX_RETRIES};
use domain::selector::{MAX_CONDITIONS, MAX_ENTRIES, MAX_VALUES};
use domain::{EventCategory, EventSource};
use serde_json::{Value, json};

use super::schema_parts::{
    STORABLE, any_object, closed, named, nullable, of, open, printed, reference, storable,
};

/// A tenant's id.
pub(super) const TENANT: &str = "^[A-Za-z0-9_.-]{1,64}$";
/// `whsec_` and the base64 of 24 bytes and more, the last bits zero (RFC 4648, 3.5).
const SECRET: &str = "^whsec_(?:[A-Za-z0-9+/]{4}){8,20}(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?$";

/// What defines something, and what changes it: no member is required of that.
pub(super) const CHANGES: [(&str, &str); 4] = [
    ("SubscriptionRequest", "SubscriptionChange"),
    ("ProcessorRequest", "ProcessorChange"),
    ("ProjectionRequest", "ProjectionChange"),
    ("AnomalyRuleRequest", "AnomalyRuleChange"),
];

/// Says of the components of a description what is accepted.
pub(super) fn narrow(schemas: &mut Value) {
    for (name, schema) in [
        ("EventFilter", filter()),
        ("RetryPolicy", retry_policy()),
        ("FoldRule", fold_rule()),
    ] {
        schemas[name] = schema;
    }
    for (request, change) in CHANGES {
        let mut changed = schemas[request].clone();
        if let Some(members) = changed.as_object_mut() {
            members.remove("required");
        }
        schemas[change] = changed;
    }
    // Only its name is that of the path.
    schemas["ProjectionChange"]["required"] = json!(["entity_type"]);
    if let Some(members) = schemas["SubscriptionChange"]["properties"].as_object_mut() {
        members.remove("webhook_secret");
    }
    subscriptions(schemas);
    processors(schemas);
    projections(schemas);
    replays(schemas);
    keys(schemas);
    anomalies::narrow(schemas);
    let question = &mut schemas["EventQuery"];
    for name in ["data", "metadata"] {
        let says = question["properties"][name]["description"].take();
        question["properties"][name] = any_object(&says);
    }
    open(question);
}

fn subscriptions(schemas: &mut Value) {
    for name in ["SubscriptionRequest", "SubscriptionChange"] {
        let request = &mut schemas[name];
        of(request, "subscriber_name", printed(255));
        of(request, "subscriber_type", nullable(printed(100)));
        of(request, "callback_url", address());
        of(request, "retry_policy", reference("RetryPolicy"));
        let orders = json!({"type": ["string", "null"], "enum": ["none", "stream", null]});
        of(request, "ordering", orders);
        let formats = json!({"type": ["string", "null"], "enum": ["json", "cloudevents", null]});
        of(request, "format", formats);
        selector(request);
        closed(request);
    }
    let secret = json!({"type": ["string", "null"], "pattern": SECRET});
    of(
        &mut schemas["SubscriptionRequest"],
        "webhook_secret",
        secret.clone(),
    );
    of(&mut schemas["RotationRequest"], "webhook_secret", secret);
    selector(&mut schemas["SelectorTrial"]);
    for name in ["RotationRequest", "SelectorTrial", "ResendRequest"] {
        closed(&mut schemas[name]);
    }
}

/// An http or https address.
fn address() -> Value {
    json!({"type": "string", "maxLength": MAX_URL, "pattern": r"^\s*[Hh][Tt][Tt][Pp][Ss]?://"})
}

fn processors(schemas: &mut Value) {
    for name in ["ProcessorRequest", "ProcessorChange"] {
        let request = &mut schemas[name];
        of(request, "processor_name", named(255));
        let mut filters = json!({"type": "object", "properties": {}});
        selector(&mut filters);
        closed(&mut filters);
        of(request, "filters", nullable(filters));
        of(request, "config", json!({"type": ["object", "null"]}));
        closed(request);
    }
    let topic = json!({"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}$"});
    let by_type = [
        ("kafka", Some(("topic", topic))),
        ("webhook", Some(("url", address()))),
        ("handler", Some(("handler", named(255)))),
        ("log", None),
    ];
    let forms = by_type.map(|(kind, own)| {
        let mut config = json!({"type": "object", "properties": {
            "timeout_seconds": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_TIMEOUT_SECONDS, "default": 30},
            "concurrency": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_CONCURRENCY, "default": 64},
            "retry_policy": reference("RetryPolicy"),
        }, "additionalProperties": false});
        let required: Vec<&str> = own.iter().map(|(name, _)| *name).collect();
        config["required"] = json!(required);
        let mut form = json!({"type": "object", "required": ["processor_type"], "properties": {
            "processor_type": {"type": "string", "enum": [kind]},
        }});
        match own {
            Some((name, schema)) => {
                config["properties"][name] = schema;
                form["required"] = json!(["processor_type", "config"]);
                form["properties"]["config"] = config;
            }
            None => form["properties"]["config"] = nullable(config),
        }
        form
    });
    let request = schemas["ProcessorRequest"].take();
    schemas["ProcessorRequest"] = json!({"allOf": [request, {"oneOf": forms}]});
}

fn projections(schemas: &mut Value) {
    for name in ["ProjectionRequest", "ProjectionChange"] {
        let request = &mut schemas[name];
        of(request, "name", named(255));
        let entity_type = json!({
            "type": "string", "maxLength": 255,
            "pattern": r"^[^\x00:]*[^\x00:\s][^\x00:]*$",
        });
        of(request, "entity_type", entity_type);
        of(request, "entity_id", nullable(named(255)));
        let patterns =
            json!({"type": ["array", "null"], "minItems": 1, "maxItems": 100, "items": named(255)});
        of(request, "event_types", patterns);
        let rules =
            json!({"type": "array", "minItems": 1, "maxItems": 16, "items": reference("FoldRule")});
        of(
            request,
            "fold",
            json!({"anyOf": [reference("FoldRule"), rules, {"type": "null"}]}),
        );
        open(request);
    }
    let rules =
        json!({"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]});
    of(&mut schemas["ProjectionDefinition"], "fold", rules);
}

fn replays(schemas: &mut Value) {
    let request = &mut schemas["EventReplayRequest"];
    let texts =
        |most: u32| json!({"type": ["array", "null"], "maxItems": most, "items": storable()});
    of(request, "event_ids", texts(10_000));
    of(request, "projections", texts(100));
    let mut names = texts(100);
    names["minItems"] = 1.into();
    of(request, "processors", names);
    of(request, "stream_id", nullable(storable()));
    of(request, "event_type", nullable(named(255)));
    let time = json!({"type": "string", "format": "date-time"});
    for name in ["start_time", "end_time"] {
        of(request, name, json!({"anyOf": [time, {"type": "null"}]}));
    }
    open(request);
    let without = |name: &str| json!({"type": "object", "properties": {name: {"type": "null"}}});
    let silent = json!({"type": "object", "properties": {"live": {"type": ["boolean", "null"], "enum": [false, null]}}});
    let ids = json!({"type": "array", "minItems": 1, "items": storable()});
    let selections = [
        json!({"type": "object", "required": ["event_ids"], "properties": {"event_ids": ids}}),
        json!({"type": "object", "required": ["stream_id"],
            "properties": {"stream_id": storable(), "event_ids": {"type": "null"}}}),
        json!({"type": "object", "required": ["start_time", "end_time"],
            "properties": {"start_time": time, "end_time": time, "stream_id": {"type": "null"}, "event_ids": {"type": "null"}}}),
        json!({"type": "object", "required": ["event_type"], "properties": {"event_type": named(255),
            "start_time": {"type": "null"}, "end_time": {"type": "null"}, "stream_id": {"type": "null"}, "event_ids": {"type": "null"}}}),
    ];
    let asked = request.take();
    *request = json!({"allOf": [
        asked,
        {"anyOf": selections},
        {"anyOf": [
            {"allOf": [without("projections"), without("processors"), silent]},
            {"allOf": [without("target_service"), without("processors"), silent]},
            {"allOf": [without("target_service"), without("projections"), silent]},
            {"allOf": [without("target_service"), without("projections"), without("processors")]},
        ]},
    ]});
}

fn keys(schemas: &mut Value) {
    let request = &mut schemas["KeyRequest"];
    of(request, "name", named(255));
    let kinds = json!({"type": ["string", "null"], "enum": ["write", "secret", null]});
    of(request, "kind", kinds);
    let tenant = json!({"type": ["string", "null"], "pattern": TENANT});
    of(request, "tenant", tenant.clone());
    let scopes = |of: &[&str]| json!({"type": ["array", "null"], "minItems": 1, "items": {"type": "string", "enum": of}});
    of(
        request,
        "scopes",
        scopes(&["write", "read", "replay", "admin"]),
    );
    open(request);
    let write = json!({"type": "object", "required": ["kind"], "properties": {
        "kind": {"type": "string", "enum": ["write"]}, "scopes": scopes(&["write"]),
    }});
    let secret = json!({"type": "object", "properties": {"kind": {"type": ["string", "null"], "enum": ["secret", null]}}});
    let asked = request.take();
    *request = json!({"allOf": [asked, {"anyOf": [write, secret]}]});
    closed(&mut schemas["LimitsRequest"]);
    open(&mut schemas["RotateRequest"]);
    open(&mut schemas["AuditRequest"]);
    let erasure = &mut schemas["ErasureRequest"];
    of(erasure, "user_id", named(255));
    of(erasure, "tenant", tenant);
    open(erasure);
}

/// The fields of a selector.
fn selector(of_what: &mut Value) {
    let list =
        |items: Value| json!({"type": ["array", "null"], "maxItems": MAX_ENTRIES, "items": items});
    let one_of = |names: Vec<&str>| json!({"type": "string", "enum": names});
    let sources = EventSource::ALL.iter().map(|one| one.as_str()).collect();
    let categories = EventCategory::ALL.iter().map(|one| one.as_str()).collect();
    of(of_what, "event_types", list(printed(255)));
    of(of_what, "event_sources", list(one_of(sources)));
    of(of_what, "event_categories", list(one_of(categories)));
    of(of_what, "users", list(named(255)));
    let filter = json!({"anyOf": [reference("EventFilter"), {"type": "null"}]});
    of(of_what, "filter", filter);
}

/// A condition; that some no event can meet, which are refused, it does not say.
fn filter() -> Value {
    let field = json!({
        "type": "string", "maxLength": 1_000,
        "pattern": r"^(?:data|metadata|context|properties)(?:\.[^.\x00]{1,100}){1,30}$",
    });
    let comparison = |operators: &[&str], required: &[&str], value: Value| {
        json!({
            "type": "object", "required": required, "additionalProperties": false,
            "properties": {"field": field, "op": {"type": "string", "enum": operators}, "value": value},
        })
    };
    let text = json!({"type": "string", "maxLength": 1_000, "pattern": STORABLE});
    let scalar = json!({"anyOf": [{"type": ["boolean", "number"]}, text]});
    let ordered = json!({"anyOf": [{"type": "number"}, text]});
    let values = json!({"type": "array", "minItems": 1, "maxItems": MAX_VALUES, "items": scalar});
    let some = json!({"type": "array", "minItems": 1, "maxItems": MAX_CONDITIONS, "items": reference("EventFilter")});
    let join = |name: &str, of: &Value| json!({"type": "object", "required": [name], "properties": {name: of}, "additionalProperties": false});
    json!({
        "description": "A comparison, eq without op; or several, joined.",
        "anyOf": [
            comparison(&["eq", "ne", "contains"], &["field", "value"], scalar.clone()),
            comparison(&["gt", "gte", "lt", "lte"], &["field", "op", "value"], ordered),
            comparison(&["in"], &["field", "op", "value"], values),
            comparison(&["exists"], &["field", "op"], json!({"type": "boolean"})),
            join("and", &some),
            join("or", &some),
            join("not", &reference("EventFilter")),
        ],
    })
}

fn retry_policy() -> Value {
    json!({
        "description": "How often and when it is tried again.",
        "type": ["object", "null"], "additionalProperties": false,
        "properties": {
            "max_retries": {"type": "integer", "minimum": 0, "maximum": MAX_RETRIES, "default": 3},
            "backoff_seconds": {
                "description": "The pause before each retry; the last one holds for all that follow.",
                "type": "array", "minItems": 1, "maxItems": MAX_RETRIES, "default": [1, 5, 30],
                "items": {"type": "integer", "minimum": 0, "maximum": MAX_BACKOFF_SECONDS},
            },
        },
    })
}

fn fold_rule() -> Value {
    let field = json!({
        "description": "A path in the data, such as total.amount.",
        "type": "string", "maxLength": 255, "pattern": r"^[^.\x00/]+(?:\.[^.\x00/]+)*$",
    });
    let member = json!({"description": "The member of the state.", "type": ["string", "null"],
        "minLength": 1, "maxLength": 255, "pattern": STORABLE});
    let rule = |names: &[&str], required: &[&str], own: Value| {
        let mut properties = json!({"rule": {"type": "string", "enum": names}});
        if let (Some(all), Value::Object(own)) = (properties.as_object_mut(), own) {
            all.extend(own);
        }
        json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
    };
    let count = json!({"type": ["integer", "null"], "minimum": 1, "maximum": 100, "default": 10});
    let name = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": STORABLE});
    json!({"anyOf": [
        rule(&["last_by_type", "merge"], &["rule"], json!({})),
        rule(&["count"], &["rule"], json!({"as": member})),
        rule(&["sum", "min", "max", "set"], &["rule", "field"], json!({"field": field, "as": member})),
        rule(&["last"], &["rule"], json!({"count": count, "as": member})),
        rule(&["reducer"], &["rule", "name"], json!({"name": name})),
    ]})
}
