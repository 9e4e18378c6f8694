use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::world::{PREFIXES, World};

fn without_times(mut statistics: Value) -> Value {
    let object = statistics.as_object_mut().unwrap();
    assert!(
        object
            .remove("calculated_at")
            .unwrap()
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert!(object.remove("period").is_some());
    object.remove("users_counted_until");
    statistics
}

#[tokio::test]
async fn without_events_everything_is_zero() {
    let world = World::start().await;
    for prefix in PREFIXES {
        for route in ["stats", "statistics"] {
            let body = world.get(&format!("{prefix}/{route}")).await.ok();
            assert_eq!(
                without_times(body),
                json!({
                    "total_events": 0, "pending_events": 0, "processed_events": 0,
                    "failed_events": 0, "events_today": 0, "events_this_week": 0,
                    "events_this_month": 0, "processing_rate": 0.0, "error_rate": 0.0,
                    "events_by_type": {}, "events_by_source": {}, "events_by_category": {},
                    "top_event_types": [], "events_by_day": [],
                    "unique_users_by_day": [], "top_users": [], "average_processing_time": null,
                })
            );
        }
    }
}

#[tokio::test]
async fn counts_rates_and_breakdowns() {
    let world = World::start().await;
    // Noon: a day begun between insert and answer would move every limit by one.
    let today = OffsetDateTime::now_utc().date();
    let noon = |days: i64| {
        let at = (today - Duration::days(days)).midnight().assume_utc() + Duration::hours(12);
        domain::timestamp::format(at)
    };
    world
        .insert(&[
            json!({"event_type": "a", "user_id": "u", "timestamp": noon(0)}),
            json!({"event_type": "a", "user_id": "u", "timestamp": noon(0), "status": "pending"}),
            json!({"event_type": "b", "timestamp": noon(7), "status": "failed", "user_id": "u",
                "event_source": "frontend"}),
            json!({"event_type": "b", "timestamp": noon(8), "event_category": "payment"}),
            json!({"event_type": "c", "timestamp": noon(30)}),
            json!({"event_type": "c", "timestamp": noon(31), "user_id": "u"}),
            json!({"event_type": "d", "timestamp": noon(400), "status": "processing"}),
            json!({"event_type": "d", "timestamp": noon(400)}),
            json!({"event_type": "z", "timestamp": noon(0), "tenant_id": "other"}),
        ])
        .await;
    let day = |days: i64| (today - Duration::days(days)).to_string();
    for route in ["stats", "statistics"] {
        let body = world.get(&format!("/api/v1/events/{route}")).await.ok();
        assert_eq!(
            without_times(body),
            json!({
                "total_events": 8, "pending_events": 1, "processed_events": 5,
                "failed_events": 1, "events_today": 2, "events_this_week": 3,
                "events_this_month": 5, "processing_rate": 62.5, "error_rate": 12.5,
                "events_by_type": {"a": 2, "b": 2, "c": 1},
                "events_by_source": {"backend": 4, "frontend": 1},
                "events_by_category": {"payment": 1, "user_action": 4},
                "top_event_types": [
                    {"event_type": "a", "count": 2},
                    {"event_type": "b", "count": 2},
                    {"event_type": "c", "count": 1},
                ],
                "events_by_day": [
                    {"date": day(0), "event_type": "a", "count": 2},
                    {"date": day(7), "event_type": "b", "count": 1},
                    {"date": day(8), "event_type": "b", "count": 1},
                    {"date": day(30), "event_type": "c", "count": 1},
                ],
                // Nobody has counted users yet.
                "unique_users_by_day": [], "top_users": [], "average_processing_time": null,
            })
        );
    }
    let user = world.get("/api/events/stats?user_id=u").await.ok();
    assert_eq!(
        without_times(user),
        json!({
            "user_id": "u",
            "total_events": 4, "pending_events": 1, "processed_events": 2,
            "failed_events": 1, "events_today": 2, "events_this_week": 3,
            "events_this_month": 3, "processing_rate": 50.0, "error_rate": 25.0,
            "events_by_type": {"a": 2, "b": 1},
            "events_by_source": {"backend": 2, "frontend": 1},
            "events_by_category": {"user_action": 3},
            "top_event_types": [
                {"event_type": "a", "count": 2},
                {"event_type": "b", "count": 1},
            ],
            "events_by_day": [
                {"date": day(0), "event_type": "a", "count": 2},
                {"date": day(7), "event_type": "b", "count": 1},
            ],
            "average_processing_time": 1000.0,
        })
    );
    for user in ["", "&user_id=u"] {
        let path = format!(
            "/api/v1/events/stats?start_time={}&ended_at={}{user}",
            noon(31),
            noon(7)
        );
        let range = world.get(&path).await.ok();
        let want = if user.is_empty() {
            json!({"b": 2, "c": 2})
        } else {
            json!({"b": 1, "c": 1})
        };
        assert_eq!(range["events_by_type"], want);
        assert_eq!(
            range["period"],
            json!({"start_time": noon(31), "end_time": noon(7)})
        );
        // The counts are about all time, whatever the period.
        assert_eq!(range["total_events"], if user.is_empty() { 8 } else { 4 });
    }
}

#[tokio::test]
async fn users_are_counted_and_named() {
    let world = World::start().await;
    let event = |user: Value, day: u8, took: u8| {
        json!({"user_id": user, "timestamp": format!("2026-03-{day:02}T12:00:00Z"),
            "created_at": format!("2026-03-20T00:00:0{took}Z"), "received_at": "2026-03-20T00:00:00Z"})
    };
    let mut events = vec![event(json!("v"), 1, 1), event(Value::Null, 1, 4)];
    events.extend((0..3).map(|_| event(json!("u"), 1, 1)));
    events.extend((0..5).map(|_| event(json!("v"), 2, 2)));
    events.push(event(json!("w"), 3, 9));
    let mut stranger = event(json!("x"), 1, 1);
    stranger["tenant_id"] = json!("other");
    events.push(stranger);
    world.insert(&events).await;
    let db = store::Database::new(&store::DatabaseConfig {
        url: world.database.url.clone(),
        schema: "event".to_owned(),
        pool_size: 1,
        verify_tls: false,
        application_name: "counts".to_owned(),
    });
    let mut client = db.unwrap().connect().await.unwrap();
    let all = Duration::weeks(5_000);
    let step = store::user_counts::step(&mut client, all).await.unwrap();
    assert_eq!(step.unwrap().events, 12);
    let stats = async |range: &str| {
        let path = format!("/api/v1/events/stats?{range}");
        world.get(&path).await.ok()
    };
    let found = stats("start_time=2026-03-01T00:00:00Z&end_time=2026-03-02T23:59:59Z").await;
    assert_eq!(
        found["unique_users_by_day"],
        json!([{"date": "2026-03-02", "users": 1}, {"date": "2026-03-01", "users": 2}])
    );
    assert_eq!(
        found["top_users"],
        json!([{"user_id": "v", "count": 6}, {"user_id": "u", "count": 3}])
    );
    // 1 + 4 + 3 × 1 + 5 × 2 seconds, of ten events.
    assert_eq!(found["average_processing_time"], 1_800.0);
    let until = found["users_counted_until"].as_str().unwrap();
    assert!(until > "2026-03-20T00:00:09Z", "{until}");
    let found = stats("start_time=2026-03-03T00:00:00Z").await;
    assert_eq!(
        (&found["unique_users_by_day"], &found["top_users"]),
        (
            &json!([{"date": "2026-03-03", "users": 1}]),
            &json!([{"user_id": "w", "count": 1}])
        )
    );
    let found = stats("start_time=2026-03-01T00:00:00Z&user_id=v").await;
    // One took a second, five took two.
    assert_eq!(found["average_processing_time"], 11_000.0 / 6.0);
    for of_all in ["unique_users_by_day", "top_users", "users_counted_until"] {
        assert!(found.get(of_all).is_none(), "{of_all}");
    }
}

#[tokio::test]
async fn events_are_counted_by_the_hour_and_told_apart() {
    let world = World::start().await;
    let event = |event_type: &str, source: &str, category: &str, hour: u8| {
        json!({"event_type": event_type, "event_source": source, "event_category": category,
            "timestamp": format!("2026-03-{:02}T{:02}:30:00Z", 1 + hour / 24, hour % 24)})
    };
    world
        .insert(&[
            event("a", "backend", "order", 1),
            event("a", "backend", "payment", 1),
            event("a", "frontend", "order", 25),
            event("b", "backend", "order", 2),
            event("b", "backend", "order", 25),
            event("c", "backend", "order", 25),
            json!({"tenant_id": "other", "timestamp": "2026-03-01T01:30:00Z"}),
        ])
        .await;
    let range = "start_time=2026-03-01T01:00:00Z&end_time=2026-03-03T00:00:00Z";
    let counts = async |more: &str| {
        let mut answers = Vec::new();
        for prefix in PREFIXES {
            let path = format!("{prefix}/counts?{range}{more}");
            answers.push(world.get(&path).await.ok());
        }
        assert_eq!(answers[0], answers[1]);
        answers.remove(0)
    };
    let rows = |answer: &Value| -> Vec<(String, Value, i64)> {
        let counts = answer["counts"].as_array().unwrap().iter();
        let row = |one: &Value| {
            let time = one["time"].as_str().unwrap()[8..13].to_owned();
            (time, one["name"].clone(), one["count"].as_i64().unwrap())
        };
        counts.map(row).collect()
    };
    let row = |time: &str, name: Value, count| (time.to_owned(), name, count);
    let daily = counts("").await;
    assert_eq!(
        (&daily["interval"], &daily["by"], &daily["total"]),
        (&json!("day"), &json!("event_type"), &json!(6))
    );
    assert_eq!(daily["names"], json!(["a", "b", "c"]));
    assert_eq!(
        rows(&daily),
        [
            row("01T00", json!("a"), 2),
            row("01T00", json!("b"), 1),
            row("02T00", json!("a"), 1),
            row("02T00", json!("b"), 1),
            row("02T00", json!("c"), 1),
        ]
    );
    // By the hour, the less frequent as one.
    let hourly = counts("&interval=hour&names=1").await;
    assert_eq!(hourly["names"], json!(["a"]));
    assert_eq!(
        rows(&hourly),
        [
            row("01T01", json!("a"), 2),
            row("01T02", Value::Null, 1),
            row("02T01", json!("a"), 1),
            row("02T01", Value::Null, 2),
        ]
    );
    // Of some alone.
    let by_source = counts("&by=event_source&event_type=a&event_category=order").await;
    assert_eq!(
        rows(&by_source),
        [
            row("01T00", json!("backend"), 1),
            row("02T00", json!("frontend"), 1),
        ]
    );
    let none = counts("&event_source=system").await;
    assert_eq!((&none["counts"], &none["total"]), (&json!([]), &json!(0)));

    for (wrong, status, field) in [
        ("interval=minute", 400, "interval"),
        ("by=user_id", 400, "by"),
        ("event_source=moon", 400, "event_source"),
        ("event_type=", 400, "event_type"),
        ("names=21", 422, "names"),
        (
            "interval=hour&start_time=2026-01-01T00:00:00Z&end_time=2026-02-02T00:00:00Z",
            422,
            "start_time",
        ),
        (
            "start_time=2024-01-01T00:00:00Z&end_time=2026-01-01T00:00:00Z",
            422,
            "start_time",
        ),
    ] {
        let answer = world.get(&format!("/api/v1/events/counts?{wrong}")).await;
        let detail = answer.problem(status).to_owned();
        assert!(detail.contains(field), "{wrong}: {detail}");
    }
}
