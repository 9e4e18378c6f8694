use proptest::prelude::*;
use serde_json::json;

use super::*;

fn list(body: &str) -> Result<ListRequest, Problem> {
    let mut parameters = Parameters::from_json(body.as_bytes())?;
    let filter = parameters.filter(TenantId::default());
    let request = parameters.list("query", filter, 100, true);
    parameters.finish()?;
    Ok(request)
}

fn list_query(query: &str) -> Result<ListRequest, Problem> {
    let mut parameters = Parameters::from_query(query)?;
    let filter = parameters.filter(TenantId::default());
    let request = parameters.list("query", filter, 100, true);
    parameters.finish()?;
    Ok(request)
}

#[test]
fn an_empty_request_asks_for_the_latest_hundred() {
    for body in ["", "{}", r#"{"user_id":null,"limit":null,"unknown":[1]}"#] {
        let request = list(body).unwrap();
        assert_eq!((request.window.limit, request.window.offset), (100, 0));
        assert!(request.count && request.filter.user_id.is_none());
    }
}

#[test]
fn wrong_fields_are_named_with_the_status_of_their_kind() {
    for (body, status, named) in [
        ("{", 400, "invalid JSON"),
        (" ", 400, "invalid JSON"),
        ("[]", 422, "must be an object"),
        ("7", 422, "must be an object"),
        (r#"{"event_source":"mars"}"#, 400, "event_source"),
        (r#"{"event_category":"mars"}"#, 400, "event_category"),
        (r#"{"status":"done"}"#, 400, "status"),
        (r#"{"event_type":"  "}"#, 400, "event_type"),
        (r#"{"user_id":7}"#, 422, "user_id"),
        (r#"{"user_id":"a\u0000b"}"#, 422, "user_id"),
        (r#"{"start_time":"yesterday"}"#, 422, "start_time"),
        (r#"{"ended_at":7}"#, 422, "ended_at"),
        (r#"{"limit":0}"#, 422, "limit"),
        (r#"{"limit":1001}"#, 422, "limit"),
        (r#"{"limit":"10"}"#, 422, "limit"),
        (r#"{"limit":1.5}"#, 422, "limit"),
        (r#"{"limit":99999999999999999999999}"#, 422, "limit"),
        (r#"{"offset":-1}"#, 422, "offset"),
        (r#"{"offset":100001}"#, 422, "cursor"),
        (r#"{"count":1}"#, 422, "count"),
        (r#"{"data":[]}"#, 422, "data"),
        (r#"{"metadata":"x"}"#, 422, "metadata"),
        (r#"{"data":{"a":{"b":"\u0000"}}}"#, 422, "data.a.b"),
        (r#"{"data":{"a":1e400}}"#, 422, "data.a"),
        (r#"{"cursor":"nonsense"}"#, 422, "cursor"),
        (r#"{"cursor":7}"#, 422, "cursor"),
    ] {
        let problem = list(body).unwrap_err();
        assert_eq!(problem.status().as_u16(), status, "{body}: {problem}");
        assert!(problem.detail().contains(named), "{body}: {problem}");
    }
    let long = json!({"session_id": "ä".repeat(256)}).to_string();
    assert_eq!(list(&long).unwrap_err().status().as_u16(), 422);
    let longest = json!({"session_id": "ä".repeat(255)}).to_string();
    assert!(list(&longest).is_ok());
}

#[test]
fn all_wrong_fields_are_named_at_once() {
    let problem = list(r#"{"limit":0,"offset":"x","start_time":""}"#).unwrap_err();
    for field in ["limit", "offset", "start_time"] {
        assert!(problem.detail().contains(field), "{problem}");
    }
}

#[test]
fn both_names_of_times_work() {
    let spec = list(r#"{"start_time":"2024-01-01","end_time":"2024-01-02"}"#).unwrap();
    let tracking = list(r#"{"started_at":"2024-01-01","ended_at":"2024-01-02T00:00"}"#).unwrap();
    assert_eq!(spec.filter.start, tracking.filter.start);
    assert_eq!(spec.filter.end, tracking.filter.end);
    assert!(spec.filter.start < spec.filter.end);
}

#[test]
fn a_query_string_says_the_same_as_a_body() {
    let query = "user_id=u%201&limit=5&count=false&data=%7B%22a%22%3A1%7D&status=failed";
    let a = list_query(query).unwrap();
    let b = list(r#"{"user_id":"u 1","limit":5,"count":false,"data":{"a":1},"status":"failed"}"#)
        .unwrap();
    assert_eq!(format!("{:?}", a.filter), format!("{:?}", b.filter));
    assert_eq!((a.window.limit, a.count), (b.window.limit, b.count));
    assert_eq!(a.scope, b.scope);
    for (query, named) in [
        ("limit=", "limit"),
        ("limit=abc", "limit"),
        ("count=maybe", "count"),
        ("start_time=", "start_time"),
        ("user_id=%00", "user_id"),
        ("data=%7B", "data"),
    ] {
        let problem = list_query(query).unwrap_err();
        assert_eq!(problem.status().as_u16(), 422);
        assert!(problem.detail().contains(named), "{query}: {problem}");
    }
}

#[test]
fn containing_the_empty_object_is_no_condition() {
    assert_eq!(
        list(r#"{"data":{},"metadata":{ }}"#).unwrap().filter.data,
        None
    );
}

#[test]
fn a_cursor_goes_with_its_filter_only_and_without_an_offset() {
    let of_a = list(r#"{"user_id":"a","data":{"x":1,"y":2}}"#).unwrap();
    let cursor = of_a.scope.after_row(1);
    let same = json!({"user_id": " a ", "limit": 7, "cursor": cursor, "data": {"y": 2, "x": 1}});
    assert!(list(&same.to_string()).unwrap().window.after.is_some());
    let other = json!({"user_id": "b", "cursor": cursor});
    assert!(
        list(&other.to_string())
            .unwrap_err()
            .detail()
            .contains("cursor")
    );
    let offset = json!({"user_id": "a", "data": {"x": 1, "y": 2}, "cursor": cursor, "offset": 1});
    assert!(
        list(&offset.to_string())
            .unwrap_err()
            .detail()
            .contains("offset")
    );
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<f64>().prop_map(|n| json!(n)),
        any::<i64>().prop_map(|n| json!(n)),
        "\\PC{0,8}|2024-0[1-9]-0[1-9]|failed|backend".prop_map(|s| json!(s)),
        Just(json!("a\0b")),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|v| json!(v)),
            proptest::collection::hash_map("\\PC{0,4}", inner, 0..4)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known = [
        "user_id",
        "event_type",
        "event_source",
        "event_category",
        "status",
        "start_time",
        "ended_at",
        "session_id",
        "data",
        "metadata",
        "limit",
        "offset",
        "cursor",
        "count",
        "other",
    ];
    proptest::sample::select(known.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_object_is_taken_or_refused(members in proptest::collection::hash_map(any_key(), any_json(), 0..8)) {
        let body = serde_json::Value::Object(members.into_iter().collect()).to_string();
        if let Err(problem) = list(&body) {
            prop_assert!([400, 422].contains(&problem.status().as_u16()), "{body}: {problem}");
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Err(problem) = list(&String::from_utf8_lossy(&body)) {
            prop_assert!([400, 422].contains(&problem.status().as_u16()));
        }
        if let Err(problem) = Parameters::from_json(&body) {
            prop_assert!([400, 422].contains(&problem.status().as_u16()));
        }
    }

    #[test]
    fn any_query_string_is_taken_or_refused(query in "[a-z_]{0,10}=[%+&=a-z0-9{}\":\\[\\]-]{0,40}") {
        if let Err(problem) = list_query(&query) {
            prop_assert!([400, 422].contains(&problem.status().as_u16()));
        }
    }
}
