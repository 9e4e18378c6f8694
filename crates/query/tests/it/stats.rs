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
