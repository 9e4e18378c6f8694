use domain::id::Space;
use serde_json::json;

use crate::world::{PREFIXES, World, id};

#[tokio::test]
async fn an_event_has_all_its_fields() {
    let world = World::start().await;
    world
        .insert(&[json!({
            "event_type": "order.created",
            "event_source": "iot_device",
            "event_category": "order",
            "client_event_id": null,
            "user_id": "u-1",
            "session_id": "s-1",
            "organization_id": "o-1",
            "device_id": "d-1",
            "correlation_id": "c-1",
            "aggregate_type": "order",
            "aggregate_id": "7",
            "expected_version": 2,
            "stream_version": 3,
            "data": {"n": 12345678901234567890123.25, "t": "ä\"\\"},
            "metadata": {"ip": "10.0.0.1"},
            "context": {"request_id": "r"},
            "properties": {"p": [1, null]},
            "status": "failed",
            "processed_at": "2026-03-01T00:00:03.5Z",
            "processors": ["a", "b"],
            "error_message": "no",
            "retry_count": 4,
            "timestamp": "2026-03-01T01:02:03.000004Z",
            "version": "1.1.0",
            "schema_version": "2.0.0",
        })])
        .await;
    for prefix in PREFIXES {
        let body = world.get(&format!("{prefix}/{}", id(0))).await.ok();
        assert_eq!(
            body,
            json!({
                "event_id": id(0),
                "tenant_id": "default",
                "client_event_id": null,
                "event_type": "order.created",
                "event_source": "iot_device",
                "event_category": "order",
                "user_id": "u-1",
                "session_id": "s-1",
                "organization_id": "o-1",
                "device_id": "d-1",
                "correlation_id": "c-1",
                "aggregate_type": "order",
                "aggregate_id": "7",
                "expected_version": 2,
                "stream_version": 3,
                "data": {"n": 12345678901234567890123.25, "t": "ä\"\\"},
                "metadata": {"ip": "10.0.0.1"},
                "context": {"request_id": "r"},
                "properties": {"p": [1, null]},
                "status": "failed",
                "processed_at": "2026-03-01T00:00:03.5Z",
                "processors": ["a", "b"],
                "error_message": "no",
                "retry_count": 4,
                "timestamp": "2026-03-01T01:02:03.000004Z",
                "received_at": "2026-03-01T00:00:01Z",
                "created_at": "2026-03-01T00:00:02Z",
                "updated_at": "2026-03-01T00:00:02Z",
                "version": "1.1.0",
                "schema_version": "2.0.0",
            })
        );
    }
}

#[tokio::test]
async fn an_event_is_found_by_every_form_of_its_id() {
    let world = World::start().await;
    let tenant = domain::TenantId::default();
    let mapped = Space::Backend.event_id(&tenant, "evt_abc/1");
    let of_event = Space::CloudEvent("/shop/eu").event_id(&tenant, "7/b");
    let of_page = Space::Frontend.event_id(&tenant, "order-1");
    let of_order = Space::Backend.event_id(&tenant, "order-1");
    let named = id(3).replace("-7000-", "-5000-");
    let foreseen = Space::Frontend.event_id(&tenant, &named);
    world
        .insert(&[
            json!({}),
            json!({"event_id": mapped.to_string(), "client_event_id": "evt_abc/1"}),
            json!({"event_id": id(7), "tenant_id": "other"}),
            json!({"event_id": of_event, "client_event_id": "7/b"}),
            json!({"event_id": of_page, "client_event_id": "order-1"}),
            json!({"event_id": foreseen, "client_event_id": named}),
        ])
        .await;
    for form in [id(0), id(0).to_uppercase(), id(0).replace('-', "")] {
        let body = world.get(&format!("/api/v1/events/{form}")).await.ok();
        assert_eq!(body["event_id"], id(0));
        assert_eq!(
            (&body["data"], &body["user_id"]),
            (&json!({}), &json!(null))
        );
        assert_eq!(body["processors"], json!([]));
    }
    let body = world.get("/api/v1/events/evt_abc%2F1").await.ok();
    assert_eq!(body["client_event_id"], "evt_abc/1");
    assert_eq!(body["event_id"], mapped.to_string());

    for (form, found) in [
        ("%2Fshop%2Feu%2F7%2Fb", of_event),
        ("order-1", of_page),
        (&named, foreseen),
    ] {
        let body = world.get(&format!("/api/v1/events/{form}")).await.ok();
        assert_eq!(body["event_id"], found.to_string(), "{form}");
    }
    // A backend's event is never hidden by a browser's.
    world
        .insert(&[json!({"event_id": of_order}), json!({"event_id": named})])
        .await;
    for (form, found) in [("order-1", of_order.to_string()), (&named, named.clone())] {
        let body = world.get(&format!("/api/v1/events/{form}")).await.ok();
        assert_eq!(body["event_id"], found, "{form}");
    }

    for (path, name) in [
        (id(99), id(99)),
        (id(7), id(7)),
        ("evt_unknown".to_owned(), "evt_unknown".to_owned()),
        ("%00".to_owned(), "\0".to_owned()),
        ("a%20b%C3%A4".to_owned(), "a bä".to_owned()),
    ] {
        let answer = world.get(&format!("/api/v1/events/{path}")).await;
        assert_eq!(answer.problem(404), format!("Event not found: {name}"));
    }
}

#[tokio::test]
async fn the_tag_changes_with_what_became_of_the_event() {
    let world = World::start().await;
    world.insert(&[json!({"status": "pending"})]).await;
    let path = format!("/api/v1/events/{}", id(0));
    let first = world.get(&path).await;
    let tag = first.header("etag").to_owned();
    assert!(
        tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10,
        "{tag}"
    );
    assert_eq!(first.header("cache-control"), "private, no-cache");

    let ask = async |known: &str| {
        let request = world.request("GET", &path).header("if-none-match", known);
        request.send().await.unwrap()
    };
    for known in [
        tag.clone(),
        format!("\"x\", {tag}"),
        format!("W/{tag}"),
        "*".to_owned(),
    ] {
        let answer = ask(&known).await;
        assert_eq!(answer.status(), 304, "{known}");
        assert_eq!(answer.headers()["etag"], tag.as_str());
        assert_eq!(answer.text().await.unwrap(), "");
    }
    assert_eq!(ask("\"x\"").await.status(), 200);

    let client = world.database.connect().await.unwrap();
    client
        .execute(
            "update events set status = 'processed', updated_at = now()",
            &[],
        )
        .await
        .unwrap();
    let answer = ask(&tag).await;
    assert_eq!(answer.status(), 200);
    assert_ne!(answer.headers()["etag"], tag.as_str());
}
