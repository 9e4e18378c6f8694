use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::world::{PREFIXES, World, numbers};

#[tokio::test]
async fn a_users_history_in_both_forms() {
    let world = World::start().await;
    let now = OffsetDateTime::now_utc();
    let today = now.date().midnight().assume_utc();
    let at = |time| domain::timestamp::format(domain::timestamp::to_micros(time));
    world
        .insert(&[
            json!({"user_id": "u/1", "event_type": "old", "timestamp": at(today - Duration::seconds(1))}),
            json!({"user_id": "u/1", "event_type": "midnight", "timestamp": at(today)}),
            json!({"user_id": "u/1", "event_type": "now", "timestamp": at(today + Duration::hours(30)),
                "metadata": {"page": "/a"}}),
            json!({"user_id": "u/1", "event_type": "last", "timestamp": at(today + Duration::days(30))}),
            json!({"user_id": "u/1", "event_type": "far",
                "timestamp": at(today + Duration::days(30) + Duration::seconds(1))}),
            json!({"user_id": "v", "timestamp": at(now)}),
        ])
        .await;
    let yesterday = (today - Duration::days(1)).date();
    for prefix in PREFIXES {
        for route in ["user", "users"] {
            let path = format!("{prefix}/{route}/u%2F1");
            assert_eq!(
                world.get(&path).await.ok(),
                json!([
                    {"event_type": "last", "timestamp": at(today + Duration::days(30)), "metadata": {}},
                    {"event_type": "now", "timestamp": at(today + Duration::hours(30)),
                        "metadata": {"page": "/a"}},
                    {"event_type": "midnight", "timestamp": at(today), "metadata": {}},
                ])
            );
            for (parameters, want) in [
                (
                    format!("started_at={yesterday}"),
                    json!(["now", "midnight", "old"]),
                ),
                (
                    format!("start_time={yesterday}"),
                    json!(["now", "midnight", "old"]),
                ),
                (
                    format!("started_at={yesterday}&ended_at={}", at(today)),
                    json!(["midnight", "old"]),
                ),
                (format!("ended_at={}", at(today)), json!(["midnight"])),
                (format!("ended_at={yesterday}"), json!([])),
                ("limit=1".to_owned(), json!(["last"])),
                ("limit=2&offset=1".to_owned(), json!(["now", "midnight"])),
                ("event_type=now".to_owned(), json!(["now"])),
                ("started_at=9999-12-31".to_owned(), json!([])),
            ] {
                let body = world.get(&format!("{path}?{parameters}")).await.ok();
                let types: Vec<_> = body
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|e| &e["event_type"])
                    .collect();
                assert_eq!(json!(types), want, "{parameters}");
            }
            let list = world.get(&format!("{path}?format=full")).await.ok();
            assert_eq!(numbers(&list), [4, 3, 2, 1, 0]);
            assert_eq!(
                (&list["total"], &list["has_more"]),
                (&json!(5), &json!(false))
            );
            let page = world
                .get(&format!("{path}?format=full&limit=2&offset=2"))
                .await
                .ok();
            assert_eq!(numbers(&page), [2, 1]);
            assert_eq!(page["has_more"], true);
            let cursor = page["next_cursor"].as_str().unwrap();
            let next = world
                .get(&format!("{path}?format=full&cursor={cursor}"))
                .await
                .ok();
            assert_eq!(numbers(&next), [0]);
        }
    }
    assert_eq!(
        world.get("/api/v1/events/user/nobody").await.ok(),
        json!([])
    );
    let nobody = world
        .get("/api/v1/events/user/nobody?format=full")
        .await
        .ok();
    assert_eq!(
        (&nobody["events"], &nobody["total"]),
        (&json!([]), &json!(0))
    );
}
