//! What comes in, by every door: whose id it is, and what other people's clients send.

use serde_json::{Value, json};
use testkit::event;

use crate::conversation::{Conversation, answer};
use crate::direct::{Record, produce};
use crate::ledger::{assert_counts, everything_on_the_log, wait_worked_off};
use crate::world::{BACKEND, beside_others};

/// What one origin calls its events takes no id from another, and no spelling makes two ids one.
#[tokio::test(flavor = "multi_thread")]
async fn no_origin_takes_the_ids_of_another() {
    let _turn = beside_others().await;
    let talk = Conversation::begin().await;
    let cloud = |source: &str, id: &str| json!({"specversion": "1.0", "type": "c", "source": source, "id": id});
    let event = |id: &str| json!({"event_type": "e", "event_id": id});
    // What a browser could have computed: the id that the backend's `order-1001` stands for.
    let tenant = domain::TenantId::default();
    let foreseen = domain::id::Space::Backend
        .event_id(&tenant, "order-1001")
        .to_string();
    let mut stored = std::collections::BTreeSet::new();
    for (path, body) in [
        ("/api/events", cloud("/shop", "eu/17")),
        ("/api/events", cloud("/shop/eu", "17")),
        ("/api/events", event("/shop/eu/17")),
        ("/api/frontend/events", event("order-1001")),
        ("/api/frontend/events", event(&foreseen)),
        ("/api/events", event("order-1001")),
    ] {
        let (status, answer) = talk.send(path, &body).await;
        assert!((200..300).contains(&status), "{answer}");
        assert!(
            stored.insert(answer["event_id"].to_string()),
            "{body} took another's id"
        );
    }
    // One key means the same request only with the same content.
    for body in [
        event::backend("a").json(),
        event::backend("b").json(),
        event::backend("a").json(),
    ] {
        let request = talk
            .to_ingest("/api/events")
            .header("Idempotency-Key", "1")
            .json(&body);
        let (_, answer) = answer(request).await;
        stored.insert(answer["event_id"].to_string());
    }
    assert_eq!(stored.len(), 8);
    talk.wait_stored(8).await;
    wait_worked_off(&talk.world, &everything_on_the_log(&talk.world).await).await;
    assert_counts(&talk.world, 8).await;
    assert_eq!(talk.world.database.count("dead_letters").await.unwrap(), 0);
    let (_, found) = talk.get("/api/v1/events/order-1001").await;
    assert_eq!(found["event_source"], "backend");
    let (_, found) = talk.get("/api/v1/events/%2Fshop%2Feu%2F17").await;
    assert_eq!(found["event_type"], "e", "a backend's own id comes first");
}

/// Any printable text is a type at every place, and a CloudEvent is one event in every mode.
#[tokio::test(flavor = "multi_thread")]
async fn what_other_peoples_sdks_send_is_an_event_at_both_doors() {
    let _turn = beside_others().await;
    let talk = Conversation::begin().await;
    let types = [
        "$pageview",
        "Order Completed!",
        "Player Create 🍔",
        "A & B",
        "50% off",
        "\"a\\, {b}*",
    ];
    let mut records = Vec::new();
    for (n, name) in types.iter().enumerate() {
        let body = json!({"event_type": name, "user_id": format!("u-{n}"), "data": {}});
        let (status, answer) = talk.send("/api/frontend/events", &body).await;
        assert_eq!(status, 200, "{answer}");
        records.push(Record::new(0, "k", body.to_string()));
    }
    let attributes = [
        ("specversion", "1.0"),
        ("id", "eu/17"),
        ("source", "/shop"),
        ("type", "$order"),
    ];
    let binary =
        |prefix: &'static str| attributes.map(|(name, value)| (format!("{prefix}{name}"), value));
    records.push(Record {
        headers: binary("ce_")
            .map(|(name, value)| (&*name.leak(), value.as_bytes().to_vec()))
            .into_iter()
            .chain([("content-type", b"application/json".to_vec())])
            .collect(),
        ..Record::new(0, "k", r#"{"type":"not.this","n":1}"#)
    });
    // Prints to 5,000 digits.
    records.push(Record::new(
        0,
        "k",
        r#"{"event_type":"x","data":{"a":[1,1e-5000]}}"#,
    ));
    produce(&talk.world, BACKEND, &records).await;
    let mut request = talk
        .to_ingest("/api/events")
        .json(&json!({"n": 1.0, "type": "not.this"}));
    for (name, value) in binary("ce-") {
        request = request.header(name, value);
    }
    assert_eq!(answer(request).await.0, 202);
    let mut structured: Value = attributes
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .into_iter()
        .collect();
    structured["data"] = json!({"type": "not.this", "n": 1});
    assert_eq!(
        talk.send("/api/events/batch", &json!([structured])).await.0,
        201
    );
    let number = json!({"event_type": "x", "data": {"a": [1]}})
        .to_string()
        .replace("[1]", "[1,1e-5000]");
    let request = talk
        .to_ingest("/api/events")
        .header("content-type", "application/json");
    let (status, refused) = answer(request.body(number)).await;
    assert_eq!(
        (status, &refused["errors"][0]["path"]),
        (422, &json!("data.a[1]"))
    );

    talk.wait_stored(13).await;
    wait_worked_off(&talk.world, &everything_on_the_log(&talk.world).await).await;
    assert_counts(&talk.world, 13).await;
    let letters = "select reason || ' ' || detail from dead_letters";
    let letters = talk.world.database.rows(letters, &[]).await.unwrap();
    let letters: Vec<String> = letters.iter().map(|row| row.get(0)).collect();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(
        letters[0].starts_with("not_storable data.a[1]: "),
        "{letters:?}"
    );
    for name in types {
        let (_, list) = talk.ask(&json!({"event_type": name})).await;
        assert_eq!(list["total"], 2, "{name}: {list}");
        let (_, stats) = talk.get("/api/v1/events/statistics").await;
        assert!(
            stats.to_string().contains(&json!(name).to_string()),
            "{stats}"
        );
    }
    let (_, found) = talk.get("/api/v1/events/%2Fshop%2Feu%2F17").await;
    assert_eq!(
        (&found["event_type"], &found["data"]["type"]),
        (&json!("$order"), &json!("not.this"))
    );
}

/// Who waits until it is stored hears of a conflict; a retry is no conflict.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_with_other_content_is_a_409_for_who_waits() {
    let _turn = beside_others().await;
    let talk = Conversation::begin().await;
    let path = "/api/v1/events/create?wait=stored";
    let event = |n: u32| json!({"event_type": "e", "event_id": "order-1001", "data": {"n": n}});
    for (n, want) in [(1, 201), (1, 201), (2, 409), (1, 201)] {
        let (status, answer) = talk.send(path, &event(n)).await;
        assert_eq!(status, want, "{n}: {answer}");
        if want == 409 {
            assert_eq!(answer["errors"][0]["code"], "id_conflict", "{answer}");
        }
    }
    assert_counts(&talk.world, 1).await;
}
