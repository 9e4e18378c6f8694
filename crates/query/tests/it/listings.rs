use serde_json::json;

use crate::world::{PREFIXES, World, numbers};

#[tokio::test]
async fn history_shows_the_most_recent() {
    let world = World::start().await;
    let events: Vec<_> = (0..15)
        .map(|n| {
            json!({
                "event_type": if n % 2 == 0 { "even" } else { "odd" },
                "aggregate_type": "order",
                "aggregate_id": format!("o-{}", n % 3),
                "timestamp": format!("2026-03-01T00:00:{n:02}Z"),
            })
        })
        .collect();
    world.insert(&events).await;
    for prefix in PREFIXES {
        for (parameters, want, total) in [
            ("", (5..15).rev().collect::<Vec<_>>(), None),
            ("?limit=5&event_type=odd", vec![13, 11, 9, 7, 5], None),
            ("?aggregate_id=o-1", vec![13, 10, 7, 4, 1], None),
            (
                "?aggregate_id=o-1&event_type=odd&count=true",
                vec![13, 7, 1],
                Some(3),
            ),
            ("?limit=3&offset=13&count=true", vec![1, 0], Some(15)),
            ("?event_type=none", vec![], None),
        ] {
            let list = world
                .get(&format!("{prefix}/history{parameters}"))
                .await
                .ok();
            assert_eq!(numbers(&list), want, "{parameters}");
            assert_eq!(list["total"], json!(total), "{parameters}");
        }
    }
    let first = world.get("/api/v1/events/history").await.ok();
    assert_eq!(first["has_more"], true);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world
        .get(&format!("/api/v1/events/history?cursor={cursor}"))
        .await
        .ok();
    assert_eq!(numbers(&second), [4, 3, 2, 1, 0]);
    assert_eq!(second["has_more"], false);
    let elsewhere = world
        .get(&format!("/api/v1/events/unprocessed?cursor={cursor}"))
        .await;
    assert!(elsewhere.problem(422).contains("cursor"));
}

#[tokio::test]
async fn unprocessed_shows_what_waits_and_what_failed() {
    let world = World::start().await;
    let events: Vec<_> = [
        "processed",
        "pending",
        "failed",
        "processing",
        "archived",
        "pending",
    ]
    .iter()
    .enumerate()
    .map(|(n, status)| json!({"status": status, "timestamp": format!("2026-03-01T00:00:{n:02}Z")}))
    .collect();
    world.insert(&events).await;
    for prefix in PREFIXES {
        let list = world.get(&format!("{prefix}/unprocessed")).await.ok();
        assert_eq!(numbers(&list), [5, 3, 2, 1]);
        assert_eq!((&list["count"], &list["total"]), (&json!(4), &json!(4)));
        let page = world
            .get(&format!("{prefix}/unprocessed?limit=2&offset=1"))
            .await
            .ok();
        assert_eq!(numbers(&page), [3, 2]);
        assert_eq!(
            (&page["count"], &page["has_more"]),
            (&json!(4), &json!(true))
        );
    }
}

#[tokio::test]
async fn wrong_parameters_are_named() {
    let world = World::start().await;
    for (path, status, named) in [
        ("history?limit=0", 422, "limit"),
        ("history?limit=x", 422, "limit"),
        ("history?offset=-1", 422, "offset"),
        ("history?event_source=mars", 400, "event_source"),
        ("history?event_type=", 400, "event_type"),
        ("history?start_time=now", 422, "start_time"),
        ("history?count=2", 422, "count"),
        ("history?cursor=%00", 422, "cursor"),
        ("history?data=7", 422, "data"),
        ("unprocessed?limit=1001", 422, "limit"),
        ("user/u?started_at=x", 422, "started_at"),
        ("user/u?format=xml", 400, "format"),
        ("user/%00", 422, "user_id"),
        ("users/u?limit=0", 422, "limit"),
        ("stats?start_time=x", 422, "start_time"),
        ("stats?user_id=%00", 422, "user_id"),
        ("dead-letters?limit=0", 422, "limit"),
        ("dead-letters?cursor=x", 422, "cursor"),
        ("dead-letters/x", 422, "id"),
        ("dead-letters/99999999999999999999", 422, "id"),
    ] {
        for prefix in PREFIXES {
            let answer = world.get(&format!("{prefix}/{path}")).await;
            let detail = answer.problem(status);
            assert!(detail.contains(named), "{path}: {detail}");
        }
    }
}
