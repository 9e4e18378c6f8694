use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::world::World;

/// Whatever is asked, the answer is no server error, and the service lives.
#[tokio::test]
async fn no_question_is_a_server_error() {
    let world = World::start().await;
    let events: Vec<_> = (0..20)
        .map(|n| json!({"user_id": "u", "data": {"n": n}}))
        .collect();
    world.insert(&events).await;
    let mut runner = TestRunner::deterministic();

    let value = prop_oneof![
        "\"\\PC{0,12}\"",
        "-?[0-9]{1,25}(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        "true|false|null|\\[\\]|\\{\\}|\"\"",
        "\"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})?)?\"",
        "\"(0000|0001|9999)-(01|12)-(01|31)\"",
        "\\{\"a\":\\{\"b\":[0-9]\\},\"\\PC{0,3}\":\"\\\\\\\\u0000\"\\}",
        "\"\\\\\\\\(u0000|ud800|udc00|u0041|n)\"",
    ];
    let key = "user_id|event_type|event_source|status|start_time|end_time|created_start|session_id|\
               aggregate_id|data|metadata|limit|offset|cursor|count|other";
    let body = proptest::collection::vec((key, value), 0..6);
    for _ in 0..600 {
        let members = body.new_tree(&mut runner).unwrap().current();
        let members: Vec<_> = members
            .iter()
            .map(|(k, v)| format!("\"{k}\":{v}"))
            .collect();
        let text = format!("{{{}}}", members.join(","));
        let status = world.query_text(&text).await.status.as_u16();
        assert!([200, 400, 422].contains(&status), "{status}: {text}");
    }

    let path = "(history|unprocessed|stats|user/[a-zA-Z0-9%]{1,5}|dead-letters(/[0-9-]{1,20})?|[a-z0-9%._~-]{1,40})";
    let query = "(limit|offset|cursor|started_at|ended_at|user_id|event_type|data|format|topic|count)=\
                 (%00|%FF|%F0%9F%98%80|\\+|[0-9-]{0,12}|[a-zA-Z0-9_-]{0,60}|%7B%22a%22%3A1%7D)";
    let request = (path, proptest::collection::vec(query, 0..4));
    for _ in 0..600 {
        let (path, parameters) = request.new_tree(&mut runner).unwrap().current();
        let target = format!("/api/events/{path}?{}", parameters.join("&"));
        let status = world.get(&target).await.status.as_u16();
        assert!(
            [200, 400, 404, 405, 422].contains(&status),
            "{status}: {target}"
        );
    }
    world.get("/api/v1/events/stats").await.ok();
}
