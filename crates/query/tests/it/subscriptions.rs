use serde_json::{Value, json};
use testkit::{Receiver, Reply};

use crate::world::{Answer, PREFIXES, World};

const PATH: &str = "/api/v1/events/subscriptions";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn world() -> World {
    World::start_with(&[("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")]).await
}

async fn send(world: &World, method: &str, path: &str, body: &Value) -> Answer {
    let request = world.request(method, path).json(body);
    Answer::of(request.send().await.unwrap()).await
}

fn subscription(name: &str) -> Value {
    json!({
        "subscriber_name": name, "subscriber_type": "service", "event_types": ["order.*"],
        "event_sources": ["backend"], "event_categories": ["order"], "enabled": true,
        "callback_url": "https://1.1.1.1/hook?token=t", "webhook_secret": SECRET,
        "retry_policy": {"max_retries": 3, "backoff_seconds": [1, 5, 30]},
    })
}

#[tokio::test]
async fn subscriptions_are_made_listed_changed_and_deleted() {
    let world = world().await;
    for (n, prefix) in PREFIXES.iter().enumerate() {
        let path = format!("{prefix}/subscriptions");
        let asked = subscription(&format!("billing-{n}"));
        let made = send(&world, "POST", &path, &asked).await;
        assert_eq!(made.status.as_u16(), 201, "{}", made.body);
        let mut want = asked.clone();
        for echoed in ["webhook_secret", "retry_policy"] {
            want.as_object_mut().unwrap().remove(echoed);
            assert_eq!(made.body.get(echoed), None);
        }
        for (name, value) in want.as_object().unwrap() {
            assert_eq!(&made.body[name], value, "{name}");
        }
        for name in ["subscription_id", "created_at", "updated_at"] {
            assert!(made.body[name].is_string(), "{name}");
        }
        let again = send(&world, "POST", &path, &asked).await;
        again.problem(409);
    }
    let list = world.get(PATH).await.ok();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let second = world.get(&format!("{PATH}?limit=1&offset=1")).await.ok();
    assert_eq!(second, json!([list[1]]));
    let none = world.get(&format!("{PATH}?limit=0")).await;
    assert!(none.problem(422).contains("limit"));
    assert!(!list.to_string().contains("whsec_"), "{list}");
    let one = format!("{PATH}/{}", list[0]["subscription_id"].as_str().unwrap());
    let read = world.get(&one).await.ok();
    assert_eq!(read["retry_policy"], subscription("x")["retry_policy"]);

    // Only what is named changes; null sets the default.
    let changes = json!({"event_types": ["user.*"], "event_sources": null, "retry_policy": {"max_retries": 1}});
    let changed = send(&world, "PATCH", &one, &changes).await.ok();
    assert_eq!(
        (&changed["event_types"], &changed["event_sources"]),
        (&json!(["user.*"]), &json!([]))
    );
    assert_eq!(changed["event_categories"], json!(["order"]));
    assert_eq!(
        changed["retry_policy"],
        json!({"max_retries": 1, "backoff_seconds": [1, 5, 30]})
    );
    let taken = json!({"subscriber_name": "billing-1"});
    send(&world, "PATCH", &one, &taken).await.problem(409);
    let off = send(&world, "POST", &format!("{one}/disable"), &json!(null))
        .await
        .ok();
    assert_eq!(
        (&off["enabled"], &off["disabled_reason"]),
        (&json!(false), &json!("request"))
    );
    let on = send(&world, "POST", &format!("{one}/enable"), &json!(null))
        .await
        .ok();
    assert_eq!(
        (&on["enabled"], &on["disabled_reason"]),
        (&json!(true), &json!(null))
    );

    // The announcement has no secret, and waits in the outbox.
    let client = world.database.connect().await.unwrap();
    let sql = "select subject, convert_from(payload, 'utf8')::jsonb from outbox order by id";
    let rows = client.query(sql, &[]).await.unwrap();
    let (subject, payload): (String, Value) = (rows[0].get(0), rows[0].get(1));
    assert_eq!(
        (rows.len(), subject.as_str()),
        (2, "event.subscription.created")
    );
    assert_eq!(payload["subscription_id"], list[0]["subscription_id"]);
    let text = payload.to_string();
    assert!(
        !text.contains("whsec_") && !text.contains("token"),
        "{text}"
    );

    let deleted = send(&world, "DELETE", &one, &json!(null)).await.ok();
    assert_eq!(
        deleted,
        json!({"status": "deleted", "subscription_id": list[0]["subscription_id"]})
    );
    for (method, path) in [
        ("GET", one.clone()),
        ("DELETE", one.clone()),
        ("PATCH", one.clone()),
        ("POST", format!("{one}/enable")),
        ("POST", format!("{one}/rotate")),
        ("POST", format!("{one}/test")),
        ("GET", format!("{PATH}/none")),
    ] {
        send(&world, method, &path, &json!({})).await.problem(404);
    }
    send(&world, "PUT", &one, &json!({})).await.problem(405);
}

#[tokio::test]
async fn what_is_wrong_with_a_subscription_is_named() {
    let world = World::start().await;
    for (field, value, path) in [
        ("extra", json!(1), "extra"),
        ("subscriber_name", json!(null), "subscriber_name"),
        ("subscriber_name", json!(" "), "subscriber_name"),
        ("subscriber_type", json!("t".repeat(101)), "subscriber_type"),
        ("event_types", json!("order.*"), "event_types"),
        ("event_types", json!([""]), "event_types[0]"),
        ("event_sources", json!(["web"]), "event_sources[0]"),
        (
            "event_categories",
            json!(["backend", 1]),
            "event_categories[1]",
        ),
        (
            "filter",
            json!({"field": "total", "value": 1}),
            "filter.field",
        ),
        (
            "filter",
            json!({"and": [{"field": "data.a", "value": 1}, {"field": "data.a", "value": 2}]}),
            "filter.and",
        ),
        ("callback_url", json!(null), "callback_url"),
        ("callback_url", json!("ftp://example.com"), "callback_url"),
        (
            "callback_url",
            json!("https://u:p@example.com"),
            "callback_url",
        ),
        (
            "callback_url",
            json!("http://169.254.169.254/latest"),
            "callback_url",
        ),
        (
            "callback_url",
            json!("http://localhost:8208/"),
            "callback_url",
        ),
        ("webhook_secret", json!("secret"), "webhook_secret"),
        ("webhook_secret", json!("whsec_c2hvcnQ="), "webhook_secret"),
        ("enabled", json!("yes"), "enabled"),
        (
            "retry_policy",
            json!({"max_retries": 1000}),
            "retry_policy.max_retries",
        ),
        (
            "retry_policy",
            json!({"backoff_seconds": [-1]}),
            "retry_policy.backoff_seconds",
        ),
        ("retry_policy", json!({"tries": 1}), "retry_policy.tries"),
    ] {
        let mut asked = subscription("wrong");
        asked[field] = value;
        let answer = send(&world, "POST", PATH, &asked).await;
        answer.problem(422);
        let errors = answer.body["errors"].to_string();
        assert!(errors.contains(&format!("\"{path}\"")), "{asked}: {errors}");
        assert!(
            !answer.body.to_string().contains("whsec_c2hv"),
            "the secret is not repeated"
        );
    }
    let several = send(&world, "POST", PATH, &json!({"a": 1, "callback_url": "x"})).await;
    assert_eq!(
        several.body["errors"].as_array().unwrap().len(),
        3,
        "{}",
        several.body
    );
    let made = send(&world, "POST", PATH, &subscription("right"))
        .await
        .body;
    let one = format!("{PATH}/{}", made["subscription_id"].as_str().unwrap());
    for (changes, path) in [
        (json!({"callback_url": "http://10.0.0.1"}), "callback_url"),
        (json!({"webhook_secret": SECRET}), "webhook_secret"),
        (json!({"subscription_id": "x"}), "subscription_id"),
    ] {
        let answer = send(&world, "PATCH", &one, &changes).await;
        answer.problem(422);
        assert!(
            answer.body["errors"].to_string().contains(path),
            "{}",
            answer.body
        );
    }
    assert_eq!(
        world.get(&one).await.ok()["callback_url"],
        made["callback_url"]
    );
}

#[tokio::test]
async fn a_test_event_is_signed_with_both_secrets_while_they_rotate() {
    let world = world().await;
    let receiver = Receiver::start(|n, _| Reply::status(if n == 0 { 200 } else { 500 }))
        .await
        .unwrap();
    let mut asked = subscription("tested");
    asked["callback_url"] = receiver.url().into();
    asked.as_object_mut().unwrap().remove("webhook_secret");
    let made = send(&world, "POST", PATH, &asked).await.body;
    assert!(
        made["webhook_secret"]
            .as_str()
            .unwrap()
            .starts_with("whsec_"),
        "shown once"
    );
    let one = format!("{PATH}/{}", made["subscription_id"].as_str().unwrap());
    let outcome = send(&world, "POST", &format!("{one}/test"), &json!(null))
        .await
        .ok();
    assert_eq!(
        (
            &outcome["delivered"],
            &outcome["status"],
            &outcome["response"]
        ),
        (&json!(true), &json!(200), &json!("ok"))
    );
    let rotated = send(
        &world,
        "POST",
        &format!("{one}/rotate"),
        &json!({"overlap_seconds": 600}),
    )
    .await
    .ok();
    assert_ne!(rotated["webhook_secret"], made["webhook_secret"]);
    assert!(rotated["previous_secret_until"].is_string());
    let outcome = send(&world, "POST", &format!("{one}/test"), &json!(null))
        .await
        .ok();
    assert_eq!(
        (&outcome["delivered"], &outcome["error"]),
        (&json!(false), &json!("the endpoint answered 500"))
    );
    let given = send(
        &world,
        "POST",
        &format!("{one}/rotate"),
        &json!({"webhook_secret": SECRET, "overlap_seconds": 0}),
    )
    .await
    .ok();
    assert_eq!(given.get("webhook_secret"), None);
    send(&world, "POST", &format!("{one}/test"), &json!(null))
        .await
        .ok();
    let too_long = json!({"overlap_seconds": 1e9});
    send(&world, "POST", &format!("{one}/rotate"), &too_long)
        .await
        .problem(422);

    let received = receiver.received();
    let signatures: Vec<usize> = received
        .iter()
        .map(|r| r.header("webhook-signature").split(' ').count())
        .collect();
    assert_eq!(signatures, [1, 2, 1]);
    assert_eq!(received[0].json()["event_type"], "webhook.test");
    assert_eq!(
        received[0].header("webhook-id"),
        received[0].json()["event_id"]
    );
}

#[tokio::test]
async fn a_selector_is_tried_on_the_last_events() {
    let world = World::start().await;
    let events: Vec<Value> = (0..20)
        .map(|n| {
            json!({"event_type": if n % 2 == 0 { "order.placed" } else { "user.seen" },
            "data": {"total": n}, "timestamp": format!("2026-03-01T00:00:{n:02}Z")})
        })
        .collect();
    world.insert(&events).await;
    let path = format!("{PATH}/dry-run");
    let trial = json!({"event_types": ["order.*"], "limit": 10,
        "filter": {"field": "data.total", "op": "lt", "value": 15}});
    let outcome = send(&world, "POST", &path, &trial).await.ok();
    assert_eq!(
        (&outcome["examined"], &outcome["matched"]),
        (&json!(10), &json!(3))
    );
    assert_eq!(outcome["events"][0]["event_type"], "order.placed");
    let all = send(&world, "POST", &path, &json!({})).await.ok();
    assert_eq!(
        (&all["examined"], &all["matched"]),
        (&json!(20), &json!(20))
    );
    let wrong = send(&world, "POST", &path, &json!({"limit": 0, "types": []})).await;
    wrong.problem(422);
}

#[tokio::test]
async fn the_list_names_the_last_failure_of_each() {
    let world = world().await;
    for name in ["fails", "failed once", "is well"] {
        let made = send(&world, "POST", PATH, &subscription(name)).await;
        assert_eq!(made.status.as_u16(), 201, "{}", made.body);
    }
    let client = world.database.connect().await.unwrap();
    let attempt = "insert into webhook_attempts (subscription_id, tenant_id, event_id, event_timestamp, event_type, \
            attempt, outcome, status, duration_ms, error, at) \
        select subscription_id, tenant_id, gen_random_uuid(), now(), 'a', 1, $2, $3, 1, $4, $5::text::timestamptz \
        from event_subscriptions where subscriber_name = $1";
    for (name, outcome, status, error, at) in [
        ("fails", "failed", Some(418), None, "2026-03-01T00:00:00Z"),
        (
            "fails",
            "delivered",
            Some(204),
            None,
            "2026-03-02T00:00:00Z",
        ),
        (
            "fails",
            "retry",
            None,
            Some("refused"),
            "2026-03-03T00:00:00Z",
        ),
        (
            "failed once",
            "failed",
            Some(500),
            None,
            "2026-03-01T00:00:00Z",
        ),
        (
            "failed once",
            "delivered",
            Some(200),
            None,
            "2026-03-04T00:00:00Z",
        ),
        (
            "is well",
            "delivered",
            Some(200),
            None,
            "2026-03-04T00:00:00Z",
        ),
    ] {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&name, &outcome, &status, &error, &at];
        client.execute(attempt, &values).await.unwrap();
    }
    let list = world.get(PATH).await.ok();
    let failure = |n: usize| list[n].get("last_failure").cloned();
    assert_eq!(
        failure(0),
        Some(json!({"at": "2026-03-03T00:00:00Z", "status": null, "error": "refused"}))
    );
    assert_eq!(
        failure(1),
        Some(json!({"at": "2026-03-01T00:00:00Z", "status": 500, "error": null}))
    );
    assert_eq!(failure(2), None);
}
