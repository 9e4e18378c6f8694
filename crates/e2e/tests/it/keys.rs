//! API keys: made, used, replaced, ended; and known while the database is away.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Part, eventually_eq};

use crate::attack::{Guarded, key};
use crate::world::{World, beside_others, soak};

impl Guarded {
    async fn admin(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let url = self.query().url(&format!("/api/v1/admin/keys{path}"));
        let request = reqwest::Client::new().post(url).bearer_auth(key).json(body);
        let answer = request.send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json().await.unwrap_or_default(),
        )
    }

    /// What ingest, the processor and query answer to a key.
    async fn seen(&self, key: &str) -> Vec<u16> {
        let event = json!({"event_type": "a.b", "data": {}});
        let sent = self.send(key, &event).await.status().as_u16();
        let history = self
            .get("/api/v1/events/history", key)
            .send()
            .await
            .unwrap();
        let bridge = self.services[1].url("/api/v1/bridge/health");
        let bridge = reqwest::Client::new()
            .get(bridge)
            .bearer_auth(key)
            .send()
            .await
            .unwrap();
        vec![sent, bridge.status().as_u16(), history.status().as_u16()]
    }
}

#[tokio::test]
async fn a_key_is_shown_once_replaced_with_an_overlap_and_ended_everywhere() {
    let _turn = beside_others().await;
    let guarded = Guarded::start(World::shared().await).await;
    let operator = key("secret", "o");
    let wanted = json!({"name": "ops", "scopes": ["admin"]});
    let (status, made) = guarded.admin("", &operator, &wanted).await;
    assert_eq!(status, 201, "{made}");
    let (first, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    eventually_eq("it is taken everywhere", vec![201, 200, 200], || async {
        Ok(guarded.seen(first).await)
    })
    .await;
    let list = guarded
        .get("/api/v1/admin/keys", &operator)
        .send()
        .await
        .unwrap();
    let list = list.text().await.unwrap();
    assert!(list.contains(id) && !list.contains(first), "{list}");
    let (status, turned) = guarded
        .admin(&format!("/{id}/rotate"), &operator, &json!({}))
        .await;
    assert_eq!(status, 201, "{turned}");
    let second = turned["key"].as_str().unwrap();
    eventually_eq("so is the new one", vec![201, 200, 200], || async {
        Ok(guarded.seen(second).await)
    })
    .await;
    assert_eq!(
        guarded.seen(first).await,
        [201, 200, 200],
        "the old one goes on for a while"
    );
    let stream = guarded.get("/api/v1/sse/users/u-1", first).send();
    let mut stream = stream.await.unwrap();
    assert_eq!(stream.status(), 200);
    let (status, ended) = guarded
        .admin(&format!("/{id}/revoke"), &operator, &json!({}))
        .await;
    assert_eq!(status, 200, "{ended}");
    eventually_eq("nobody takes it", vec![401, 401, 401], || async {
        Ok(guarded.seen(first).await)
    })
    .await;
    assert_eq!(guarded.seen(second).await, [201, 200, 200]);
    // The heartbeats would go on.
    let end = async { while let Ok(Some(_)) = stream.chunk().await {} };
    let end = tokio::time::timeout(Duration::from_secs(20), end).await;
    assert!(end.is_ok(), "the stream goes on without its key");

    // An admin of a tenant manages its keys and no others'.
    let acme = key("secret", "a");
    let foreign = json!({"name": "n", "tenant": "other"});
    assert_eq!(guarded.admin("", &acme, &foreign).await.0, 403);
    let new = turned["id"].as_str().unwrap();
    assert_eq!(
        guarded
            .admin(&format!("/{new}/revoke"), &acme, &json!({}))
            .await
            .0,
        404
    );
    let (status, made) = guarded
        .admin("", &acme, &json!({"name": "shop", "kind": "write"}))
        .await;
    assert_eq!((status, &made["tenant"]), (201, &json!("acme")), "{made}");
    // A beacon of a page has its key in the URL.
    let beacon = guarded.ingest().url("/api/v1/events/frontend");
    let beacon = format!("{beacon}?write_key={}", made["key"].as_str().unwrap());
    let event = json!({"event_type": "of.a.shop", "user_id": "u-1", "data": {}});
    eventually_eq("a page's event is taken", 200, || async {
        let request = reqwest::Client::new().post(&beacon).json(&event);
        Ok(request.send().await?.status().as_u16())
    })
    .await;
    eventually_eq("it is the tenant's", true, || async {
        let page = guarded.get("/api/v1/events/history", &acme).send().await?;
        Ok(page.text().await?.contains("of.a.shop"))
    })
    .await;
    for (field, wrong) in [
        ("scopes", json!({"name": "n", "scopes": ["root"]})),
        (
            "scopes",
            json!({"name": "n", "kind": "write", "scopes": ["read"]}),
        ),
        ("name", json!({})),
        ("tenant", json!({"name": "n", "tenant": "a/b"})),
    ] {
        let (status, problem) = guarded.admin("", &operator, &wrong).await;
        assert!(status == 400 || status == 422, "{problem}");
        assert_eq!(problem["errors"][0]["path"], field, "{problem}");
    }
    for service in &guarded.services {
        let log = service.log();
        assert!(
            !log.contains(first) && !log.contains(second),
            "a key is in a log"
        );
    }
}

/// Ten seconds, in `make soak` a minute: longer than the keys are read again.
#[tokio::test]
async fn keys_are_known_while_database_and_redis_are_away() {
    let _turn = beside_others().await;
    let away = Duration::from_secs(soak(10, 60));
    let guarded = Guarded::start(World::with_own(&[Part::Postgres, Part::Redis]).await).await;
    let wanted = json!({"name": "shop", "kind": "write"});
    let (_, made) = guarded.admin("", &key("secret", "o"), &wanted).await;
    let shop = made["key"].as_str().unwrap();
    let event = json!({"event_type": "a.b", "data": {}});
    let history = async |key: &str| {
        let request = guarded.get("/api/v1/events/history", key).send();
        request.await.unwrap().status().as_u16()
    };
    eventually_eq("it is taken", 201_u16, || async {
        Ok(guarded.send(shop, &event).await.status().as_u16())
    })
    .await;
    eventually_eq("query knows it", 403_u16, || async {
        Ok(history(shop).await)
    })
    .await;
    guarded.world.parts.kill(Part::Postgres).await;
    guarded.world.parts.kill(Part::Redis).await;
    let until = Instant::now() + away;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(guarded.send(shop, &event).await.status(), 201);
        assert_eq!(guarded.send(&key("write", "w"), &event).await.status(), 201);
        assert_eq!(guarded.send(&key("write", "z"), &event).await.status(), 401);
    }
    // Query cannot answer, but says so only to who may ask.
    assert_eq!(history(&key("secret", "r")).await, 503);
    assert_eq!(history(&key("secret", "z")).await, 401);
    assert_eq!(history(shop).await, 403);
}

/// One key, three gateways: it is ended once, and ends everywhere.
#[tokio::test]
async fn a_key_that_is_ended_is_refused_by_every_gateway() {
    let _turn = beside_others().await;
    let guarded = Guarded::start(World::shared().await).await;
    let second = guarded.start_service("ingest").await;
    let third = guarded.start_service("ingest").await;
    let gateways = [guarded.ingest(), &second, &third];
    let operator = key("secret", "o");
    let wanted = json!({"name": "shop", "kind": "write"});
    let (_, made) = guarded.admin("", &operator, &wanted).await;
    let (shop, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let answers = async || {
        let mut answers = vec![];
        for gateway in gateways {
            let url = gateway.url("/api/v1/events/create");
            let event = json!({"event_type": "a.b", "data": {}});
            let request = reqwest::Client::new().post(url).bearer_auth(shop);
            let answer = request.json(&event).send().await?;
            answers.push(answer.status().as_u16());
        }
        anyhow::Ok(answers)
    };
    eventually_eq("all take it", vec![201; 3], answers).await;
    let (status, ended) = guarded
        .admin(&format!("/{id}/revoke"), &operator, &json!({}))
        .await;
    assert_eq!(status, 200, "{ended}");
    let since = Instant::now();
    eventually_eq("none takes it", vec![401; 3], answers).await;
    println!(
        "a key ended on three gateways after {} ms",
        since.elapsed().as_millis()
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(answers().await.unwrap(), [401; 3], "for good");
}
