use serde_json::{Value, json};

use crate::world::{World, id};

fn versions(stream: &Value) -> Vec<i64> {
    let events = stream["events"].as_array().unwrap();
    let version = |event: &Value| event["stream_version"].as_i64().unwrap();
    events.iter().map(version).collect()
}

#[tokio::test]
async fn a_stream_is_read_by_versions_and_a_users_in_the_order_of_time() {
    let world = World::start().await;
    let mut events: Vec<Value> = (1..=4)
        .map(|n| {
            json!({"aggregate_type": "order", "aggregate_id": "7:b/c", "user_id": "u",
                "stream_id": "order:7:b/c", "stream_version": n})
        })
        .collect();
    // Numbered by their times, whatever the order in which they were stored.
    for day in [3, 1, 2] {
        let at = format!("2026-03-0{day}T00:00:00Z");
        events.push(json!({"user_id": "u", "timestamp": at, "data": {"day": day}}));
    }
    events.push(json!({"user_id": "u", "tenant_id": "other"}));
    world.insert(&events).await;
    let client = world.database.connect().await.unwrap();
    let sql = "insert into event_streams (tenant_id, stream_id, version) values ('default', 'order:7:b/c', 4)";
    client.execute(sql, &[]).await.unwrap();

    let path = "/api/v1/events/stream/order:7:b%2Fc";
    let stream = world.get(path).await.ok();
    assert_eq!(versions(&stream), [1, 2, 3, 4]);
    let mut head = stream.clone();
    let first = head.as_object_mut().unwrap().remove("events").unwrap()[0].clone();
    assert_eq!(
        head,
        json!({"stream_id": "order:7:b/c", "stream_type": "order", "entity_type": "order",
            "entity_id": "7:b/c", "version": 4, "implicit": false, "limit": 100, "has_more": false,
            "next_version": null})
    );
    assert_eq!(first["event_id"], id(0));
    let event = world.get(&format!("/api/v1/events/{}", id(0))).await.ok();
    assert_eq!(event, first, "as by its id");
    for (query, want, next) in [
        ("?from_version=2&limit=2", vec![2, 3], json!(4)),
        ("?direction=backward&limit=3", vec![4, 3, 2], json!(1)),
        (
            "?direction=backward&from_version=2",
            vec![2, 1],
            Value::Null,
        ),
        ("?from_version=9", vec![], Value::Null),
    ] {
        let part = world.get(&format!("{path}{query}")).await.ok();
        assert_eq!(versions(&part), want, "{query}");
        assert_eq!(
            (&part["next_version"], &part["version"]),
            (&next, &json!(4))
        );
        assert_eq!(part["has_more"], next != Value::Null);
    }

    let stream = world.get("/api/events/stream/user:u").await.ok();
    assert_eq!(
        (&stream["implicit"], &stream["version"]),
        (&json!(true), &json!(3))
    );
    assert_eq!(versions(&stream), [1, 2, 3]);
    let days: Vec<_> = (0..3)
        .map(|n| stream["events"][n]["data"]["day"].clone())
        .collect();
    assert_eq!(days, [1, 2, 3]);
    let back = world
        .get("/api/events/stream/user:u?direction=backward&limit=2")
        .await
        .ok();
    assert_eq!(
        (versions(&back), &back["next_version"]),
        (vec![3, 2], &json!(1))
    );

    let none = world.get("/api/v1/events/stream/plain").await.ok();
    assert_eq!(
        (
            &none["version"],
            &none["events"],
            &none["entity_type"],
            &none["entity_id"]
        ),
        (&json!(0), &json!([]), &json!("plain"), &json!("plain"))
    );
    for query in ["from_version=x", "from_version=-1", "limit=0", "limit=1001"] {
        let answer = world.get(&format!("{path}?{query}")).await;
        let name = query.split('=').next().unwrap();
        assert!(answer.problem(422).starts_with(name), "{query}");
    }
    assert!(
        world
            .get(&format!("{path}?direction=up"))
            .await
            .problem(400)
            .starts_with("direction")
    );
}
