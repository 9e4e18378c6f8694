use serde_json::json;

use crate::world::{PREFIXES, World};

#[tokio::test]
async fn records_are_listed_and_shown() {
    let world = World::start().await;
    let client = world.database.connect().await.unwrap();
    let long = "ä".repeat(5_000);
    for (topic, offset, key, payload, reason) in [
        (
            "events.backend.service",
            7_i64,
            Some("k"),
            Some(b"{\"no".to_vec()),
            "invalid_json",
        ),
        (
            "events.backend.service",
            8,
            None,
            Some(vec![0xff, 0x00, 0xfe]),
            "invalid_json",
        ),
        (
            "orders",
            9,
            None,
            Some(long.clone().into_bytes()),
            "too_large",
        ),
        ("orders", 10, None, None, "wrong_type"),
    ] {
        client
            .execute(
                "insert into dead_letters (topic, partition, \"offset\", key, headers, payload, reason, detail) \
                 values ($1, 3, $2, $3, '[[\"h\", \"v\"], [\"h\", \"w\"]]', $4, $5, 'a sentence')",
                &[&topic, &offset, &key.map(str::as_bytes), &payload, &reason],
            )
            .await
            .unwrap();
    }
    client
        .execute(
            "insert into dead_letters (tenant_id, topic, partition, \"offset\", reason, detail) \
             values ('other', 't', 0, 0, 'r', 'd')",
            &[],
        )
        .await
        .unwrap();
    for prefix in PREFIXES {
        for route in ["dead-letters", "dead_letters"] {
            let path = format!("{prefix}/{route}");
            let list = world.get(&path).await.ok();
            let letters = list["dead_letters"].as_array().unwrap();
            assert_eq!((letters.len(), &list["total"]), (4, &json!(4)));
            assert_eq!(letters[3]["offset"], 7);
            let mut first = letters[3].clone();
            let created_at = first.as_object_mut().unwrap().remove("created_at").unwrap();
            assert!(created_at.as_str().unwrap().ends_with('Z'));
            assert_eq!(
                first,
                json!({
                    "id": 1, "topic": "events.backend.service", "partition": 3, "offset": 7,
                    "reason": "invalid_json", "detail": "a sentence", "headers": [["h", "v"], ["h", "w"]],
                    "key": "k", "key_base64": "aw==", "payload": "{\"no",
                    "payload_base64": "eyJubw==", "payload_size": 4, "payload_truncated": false,
                    "event_id": null, "state": "open", "note": null, "attempts": 0, "history": [],
                    "faults": [],
                })
            );
            let bytes = &letters[2];
            assert_eq!(
                (&bytes["payload"], &bytes["payload_base64"]),
                (&json!(null), &json!("/wD+"))
            );
            let cut = &letters[1];
            assert_eq!(
                (&cut["payload_size"], &cut["payload_truncated"]),
                (&json!(10_000), &json!(true))
            );
            assert_eq!(cut["payload"], "ä".repeat(2_048));
            let whole = world.get(&format!("{path}/{}", cut["id"])).await.ok();
            assert_eq!(
                (&whole["payload"], &whole["payload_truncated"]),
                (&json!(long), &json!(false))
            );
            let none = &letters[0];
            assert_eq!(
                (&none["payload"], &none["payload_size"]),
                (&json!(null), &json!(0))
            );
            assert_eq!(none["payload_base64"], json!(null));

            for (parameters, want) in [
                ("?reason=invalid_json", vec![8, 7]),
                ("?topic=orders", vec![10, 9]),
                ("?topic=orders&reason=too_large", vec![9]),
                ("?reason=none", vec![]),
                ("?limit=2&offset=1", vec![9, 8]),
            ] {
                let list = world.get(&format!("{path}{parameters}")).await.ok();
                let letters = list["dead_letters"].as_array().unwrap();
                let offsets: Vec<_> = letters
                    .iter()
                    .map(|l| l["offset"].as_i64().unwrap())
                    .collect();
                assert_eq!(offsets, want, "{parameters}");
            }
            let page = world.get(&format!("{path}?limit=3&count=false")).await.ok();
            assert_eq!(
                (&page["has_more"], &page["total"]),
                (&json!(true), &json!(null))
            );
            let cursor = page["next_cursor"].as_str().unwrap();
            let rest = world
                .get(&format!("{path}?limit=3&cursor={cursor}"))
                .await
                .ok();
            assert_eq!(rest["dead_letters"].as_array().unwrap().len(), 1);
            assert_eq!(
                (&rest["has_more"], &rest["next_cursor"]),
                (&json!(false), &json!(null))
            );
            let other = world
                .get(&format!("{path}?topic=orders&cursor={cursor}"))
                .await;
            assert!(other.problem(422).contains("cursor"));
            // Another tenant's, and none.
            for id in ["5", "999", "-1"] {
                let answer = world.get(&format!("{path}/{id}")).await;
                assert_eq!(answer.problem(404), format!("Dead letter not found: {id}"));
            }
        }
    }
}

#[tokio::test]
async fn the_place_of_a_fault_is_shown_and_kinds_are_counted() {
    let world = World::start().await;
    let client = world.database.connect().await.unwrap();
    for (payload, reason) in [
        (r#"{"event_type":"a","user_id":7,"data":{}}"#, "wrong_type"),
        (r#"{"event_type":"a" "#, "invalid_json"),
        (r#"{"event_type":"a","data":{}}"#, "invalid_json"),
    ] {
        let sql = "insert into dead_letters (topic, partition, \"offset\", payload, reason, detail) \
            values ('orders', 0, 0, convert_to($1, 'UTF8'), $2, 'a sentence')";
        client.execute(sql, &[&payload, &reason]).await.unwrap();
    }
    let faults = async |id: i32| {
        let path = format!("/api/v1/events/dead-letters/{id}");
        world.get(&path).await.ok()["faults"].clone()
    };
    let wrong = faults(1).await;
    assert_eq!(
        (&wrong[0]["path"], &wrong[0]["value"]),
        (&json!("user_id"), &json!(7))
    );
    let broken = faults(2).await;
    assert_eq!(broken[0]["at"], 18, "{broken}");
    // What is read today as an event has no fault any more.
    assert_eq!(faults(3).await, json!([]));
    let counts = world.get("/api/v1/events/dead-letters/counts").await.ok();
    let kinds: Vec<_> = (0..2)
        .map(|n| {
            (
                &counts["counts"][n]["reason"],
                &counts["counts"][n]["count"],
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            (&json!("invalid_json"), &json!(2)),
            (&json!("wrong_type"), &json!(1))
        ]
    );
    for (state, total) in [("open", 3), ("discarded", 0), ("redriven", 0)] {
        let path = format!("/api/v1/events/dead-letters?state={state}");
        assert_eq!(world.get(&path).await.ok()["total"], total, "{state}");
    }
}
