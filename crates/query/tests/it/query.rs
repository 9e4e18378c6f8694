use serde_json::{Value, json};

use crate::world::{PREFIXES, World, id, numbers};

#[tokio::test]
async fn every_condition_selects_its_events() {
    let world = World::start().await;
    world
        .insert(&[
            json!({"user_id": "u", "event_type": "a.b", "timestamp": "2026-03-01T00:00:00Z"}),
            json!({"event_source": "scheduled", "event_category": "payment", "status": "failed",
                "timestamp": "2026-03-02T00:00:00Z", "created_at": "2026-03-05T00:00:00Z"}),
            json!({"session_id": "s", "organization_id": "o", "timestamp": "2026-03-03T00:00:00Z"}),
            json!({"device_id": "d", "correlation_id": "c", "user_id": "u",
                "timestamp": "2026-03-04T00:00:00Z"}),
            json!({"aggregate_type": "order", "aggregate_id": "1", "status": "pending",
                "data": {"a": {"b": [1, 2]}, "c": true}, "timestamp": "2026-03-05T00:00:00Z"}),
            json!({"aggregate_type": "cart", "aggregate_id": "1", "metadata": {"k": "ä"},
                "event_category": "payment", "timestamp": "2026-03-06T00:00:00Z"}),
            json!({"tenant_id": "other", "user_id": "u", "timestamp": "2026-03-06T00:00:00Z"}),
        ])
        .await;
    let all: &[usize] = &[5, 4, 3, 2, 1, 0];
    for (body, want) in [
        (json!({}), all),
        (json!({"user_id": null, "anything": {"else": 1}}), all),
        (json!({"user_id": "u"}), &[3, 0]),
        (json!({"user_id": " u "}), &[3, 0]),
        (json!({"user_id": "U"}), &[]),
        (json!({"user_id": "u", "device_id": "d"}), &[3]),
        (json!({"event_type": "a.b"}), &[0]),
        (json!({"event_type": "a.%"}), &[]),
        (json!({"event_source": "scheduled"}), &[1]),
        (json!({"event_source": "backend"}), &[5, 4, 3, 2, 0]),
        (json!({"event_category": "payment"}), &[5, 1]),
        (
            json!({"event_category": "payment", "event_source": "scheduled"}),
            &[1],
        ),
        (json!({"status": "failed"}), &[1]),
        (json!({"status": "pending"}), &[4]),
        (json!({"status": "processed"}), &[5, 3, 2, 0]),
        (json!({"status": "archived"}), &[]),
        (json!({"session_id": "s"}), &[2]),
        (json!({"organization_id": "o"}), &[2]),
        (json!({"device_id": "d"}), &[3]),
        (json!({"correlation_id": "c"}), &[3]),
        (json!({"aggregate_id": "1"}), &[5, 4]),
        (json!({"aggregate_type": "order"}), &[4]),
        (
            json!({"aggregate_type": "order", "aggregate_id": "1"}),
            &[4],
        ),
        (json!({"data": {}}), all),
        (json!({"data": {"c": true}}), &[4]),
        (json!({"data": {"a": {"b": [2]}}}), &[4]),
        (json!({"data": {"a": {"b": 2}}}), &[]),
        (json!({"data": {"a": {}}, "aggregate_id": "1"}), &[4]),
        (json!({"data": {"a": {}}, "metadata": {"k": "ä"}}), &[]),
        (json!({"metadata": {"k": "ä"}}), &[5]),
        (json!({"metadata": {"k": "ä"}, "data": {"c": true}}), &[]),
        (json!({"start_time": "2026-03-05T00:00:00Z"}), &[5, 4]),
        (json!({"started_at": "2026-03-05"}), &[5, 4]),
        (json!({"start_time": "2026-03-05T00:00:00.000001Z"}), &[5]),
        (json!({"end_time": "2026-03-02T01:00:00+01:00"}), &[1, 0]),
        (json!({"ended_at": "2026-03-02T00:00:00"}), &[1, 0]),
        (
            json!({"start_time": "2026-03-02", "end_time": "2026-03-04"}),
            &[3, 2, 1],
        ),
        (
            json!({"start_time": "2026-03-04", "end_time": "2026-03-02"}),
            &[],
        ),
        (
            json!({"start_time": "0001-01-01", "end_time": "9999-12-31"}),
            all,
        ),
        (json!({"created_start": "2026-03-05"}), &[1]),
        (json!({"created_end": "2026-03-04"}), &[5, 4, 3, 2, 0]),
        (json!({"user_id": "'; drop table events; --"}), &[]),
    ] {
        let list = world.query(&body).await.ok();
        assert_eq!(numbers(&list), want, "{body}");
        assert_eq!(list["total"], want.len(), "{body}");
        let rest = json!([
            list["limit"],
            list["offset"],
            list["has_more"],
            list["next_cursor"]
        ]);
        assert_eq!(rest, json!([100, 0, false, null]), "{body}");
    }
    assert_eq!(numbers(&world.query_text("").await.ok()), all);
}

#[tokio::test]
async fn pages_by_limit_and_offset() {
    let world = World::start().await;
    let events: Vec<Value> = (0..25)
        .map(|n| json!({"timestamp": format!("2026-03-01T00:00:{n:02}Z")}))
        .collect();
    world.insert(&events).await;
    for (limit, offset, want, has_more) in [
        (10, 0, (15..25).rev().collect::<Vec<_>>(), true),
        (10, 10, (5..15).rev().collect(), true),
        (10, 15, (0..10).rev().collect(), false),
        (10, 20, (0..5).rev().collect(), false),
        (25, 0, (0..25).rev().collect(), false),
        (24, 0, (1..25).rev().collect(), true),
        (1, 24, vec![0], false),
        (10, 25, vec![], false),
        (1000, 100_000, vec![], false),
    ] {
        for prefix in PREFIXES {
            let request = world
                .request("POST", &format!("{prefix}/query"))
                .json(&json!({"limit": limit, "offset": offset}));
            let list = crate::world::Answer::of(request.send().await.unwrap())
                .await
                .ok();
            assert_eq!(numbers(&list), want, "{limit} {offset}");
            assert_eq!(list["total"], 25, "{limit} {offset}");
            assert_eq!(list["has_more"], has_more, "{limit} {offset}");
            assert_eq!(list["next_cursor"].is_string(), has_more);
            assert_eq!(
                (&list["limit"], &list["offset"]),
                (&json!(limit), &json!(offset))
            );
        }
    }
}

#[tokio::test]
async fn a_cursor_goes_through_everything_once_though_events_arrive() {
    let world = World::start().await;
    // Many events of the same moment, over a page's edge and over two partitions.
    let events: Vec<Value> = (0..57)
        .map(|n| {
            let at = if n < 40 {
                "2026-03-01T00:00:00Z"
            } else {
                "2025-03-01T00:00:00.000001Z"
            };
            json!({"timestamp": at, "user_id": "u"})
        })
        .collect();
    world.insert(&events).await;
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    for page in 0.. {
        let body = json!({"user_id": "u", "limit": 10, "cursor": cursor, "count": page == 0});
        let list = world.query(&body).await.ok();
        seen.extend(numbers(&list));
        assert_eq!(
            list["total"],
            if page == 0 { json!(57) } else { Value::Null }
        );
        if page == 1 {
            let newer = json!({"event_id": id(900), "user_id": "u", "timestamp": "2026-04-01"});
            world.insert(&[newer]).await;
        }
        cursor = list["next_cursor"].clone();
        assert_eq!(list["has_more"], cursor.is_string());
        if cursor.is_null() {
            break;
        }
    }
    let want: Vec<usize> = (0..40).rev().chain((40..57).rev()).collect();
    assert_eq!(seen, want);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::start().await;
    world.insert(&[json!({}), json!({})]).await;
    let foreign = world.query(&json!({"limit": 1})).await.ok()["next_cursor"].clone();
    let with_foreign = json!({"user_id": "u", "cursor": foreign}).to_string();
    let with_offset = json!({"offset": 1, "cursor": foreign}).to_string();
    let deep = format!(
        "{{\"data\":{}{}}}",
        "{\"a\":".repeat(10_000),
        "}".repeat(10_000)
    );
    for (body, status, named) in [
        ("{", 400, "invalid JSON"),
        ("nonsense", 400, "invalid JSON"),
        ("[1]", 422, "object"),
        (
            r#"{"event_source":"mars"}"#,
            400,
            "event_source: must be one of frontend, ",
        ),
        (
            r#"{"event_category":"mars"}"#,
            400,
            "event_category: must be one of ",
        ),
        (
            r#"{"status":"mars"}"#,
            400,
            "status: must be one of pending, ",
        ),
        (r#"{"event_type":""}"#, 400, "event_type"),
        (r#"{"event_type":["a"]}"#, 422, "event_type: must be text"),
        (r#"{"user_id":"a\u0000"}"#, 422, "user_id"),
        (r#"{"start_time":"2026-02-30"}"#, 422, "start_time"),
        (r#"{"end_time":1}"#, 422, "end_time"),
        (r#"{"limit":0}"#, 422, "limit: must be from 1 to 1000"),
        (r#"{"limit":1001}"#, 422, "limit"),
        (r#"{"limit":"many"}"#, 422, "limit"),
        (r#"{"offset":-1}"#, 422, "offset"),
        (r#"{"offset":100001}"#, 422, "offset"),
        (r#"{"count":"no"}"#, 422, "count"),
        (r#"{"data":"x"}"#, 422, "data: must be an object"),
        (r#"{"data":{"a":"\ud800"}}"#, 422, "data.a"),
        (r#"{"data":{"a":1e400}}"#, 422, "data.a"),
        (r#"{"cursor":"x"}"#, 422, "cursor: not a cursor"),
        (&deep, 422, "data"),
        (
            r#"{"data":{"a":{}}}"#,
            422,
            "data: no index serves an object without a value",
        ),
        (
            r#"{"metadata":{"a":[[]]},"event_type":"a.b"}"#,
            422,
            "or add user_id, session_id",
        ),
        (&with_foreign, 422, "cursor: belongs to another"),
        (&with_offset, 422, "offset"),
    ] {
        let answer = world.query_text(body).await;
        let detail = answer.problem(status);
        assert!(detail.contains(named), "{body:.80}: {detail}");
    }
    let big = format!("{{\"user_id\":\"{}\"}}", "x".repeat(300_000));
    world.query_text(&big).await.problem(413);
    for (name, value) in [("content-type", "text/xml"), ("content-encoding", "gzip")] {
        let request = world
            .request("POST", "/api/v1/events/query")
            .header(name, value)
            .body("{}");
        crate::world::Answer::of(request.send().await.unwrap())
            .await
            .problem(415);
    }
}

#[tokio::test]
async fn a_page_that_is_too_large_says_what_would_fit() {
    let world = World::start_with(&[("MAX_RESPONSE_BYTES", "1048576")]).await;
    let events: Vec<Value> = (0..10)
        .map(
            |_| json!({"data": {"x": "y".repeat(200_000)}, "metadata": {"m": "y".repeat(200_000)}}),
        )
        .collect();
    world.insert(&events).await;
    let answer = world.query(&json!({})).await;
    let detail = answer.problem(422);
    assert!(
        detail.starts_with("limit: ") && detail.contains("first 2 rows"),
        "{detail}"
    );
    let list = world.query(&json!({"limit": 2})).await.ok();
    assert_eq!(list["events"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&list["total"], &list["has_more"]),
        (&json!(10), &json!(true))
    );
}

#[tokio::test]
async fn totals_come_from_the_counts_where_they_tell() {
    let world = World::start_with(&[("COUNT_TIMEOUT_MS", "200")]).await;
    let events: Vec<Value> = (0..6)
        .map(|n| json!({"event_type": if n % 2 == 0 { "a" } else { "b" }, "user_id": "u"}))
        .collect();
    world.insert(&events).await;
    let client = world.database.connect().await.unwrap();
    // No number of events: what is answered is the count that was kept.
    client
        .batch_execute("update aggregated_events set count = count + 1000000")
        .await
        .unwrap();
    let total = async |body: Value| {
        let list = world.query(&body).await.ok();
        assert_eq!(numbers(&list).len(), 1, "{list}");
        (list["total"].clone(), list["total_is_estimate"].clone())
    };
    let known = |count: i64| (json!(count), json!(false));
    assert_eq!(total(json!({"limit": 1})).await, known(2_000_006));
    assert_eq!(
        total(json!({"limit": 1, "event_type": "a"})).await,
        known(1_000_003)
    );
    assert_eq!(total(json!({"limit": 1, "user_id": "u"})).await, known(6));

    // Where types are counted together, only counting tells.
    client
        .batch_execute(
            "insert into aggregated_events (event_type, date, count) values ('other', '2026-03-02', 5)",
        )
        .await
        .unwrap();
    assert_eq!(
        total(json!({"limit": 1, "event_type": "a"})).await,
        known(3)
    );
    assert_eq!(total(json!({"limit": 1})).await, known(2_000_011));

    // Counts that stay when events are removed are not counted.
    client
        .batch_execute("insert into retention (kept_from) values ('2026-02-01')")
        .await
        .unwrap();
    assert_eq!(total(json!({"limit": 1})).await, (json!(6), json!(true)));

    // And a total that cannot be had in time never takes the page with it.
    client
        .batch_execute("begin; lock table retention in access exclusive mode")
        .await
        .unwrap();
    assert_eq!(total(json!({"limit": 1})).await, (Value::Null, json!(true)));
    let list = world.query(&json!({"limit": 1})).await.ok();
    assert_eq!(
        (&list["has_more"], list["next_cursor"].is_string()),
        (&json!(true), true)
    );
}
