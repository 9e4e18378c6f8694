//! What is refused of processors.

use serde_json::{Value, json};

use crate::world::{Answer, PREFIXES, World};

async fn post(world: &World, prefix: &str, body: &Value) -> Answer {
    let request = world
        .request("POST", &format!("{prefix}/processors"))
        .json(body);
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn each_wrong_field_of_a_processor_is_named() {
    let world = World::start_with(&[("KAFKA_DOMAIN_TOPICS", "orders")]).await;
    let right = json!({"processor_name": "p", "processor_type": "log"});
    for (field, value, path) in [
        ("processor_name", json!(null), "processor_name"),
        ("processor_name", json!(" "), "processor_name"),
        ("processor_name", json!("x".repeat(256)), "processor_name"),
        ("processor_type", json!("mail"), "processor_type"),
        ("processor_type", json!(7), "processor_type"),
        ("enabled", json!("yes"), "enabled"),
        ("priority", json!(1.5), "priority"),
        ("priority", json!(1_000_001), "priority"),
        ("filters", json!([]), "filters"),
        (
            "filters",
            json!({"event_types": [""]}),
            "filters.event_types[0]",
        ),
        ("filters", json!({"types": []}), "filters.types"),
        ("config", json!("x"), "config"),
        ("config", json!({"topic": "t"}), "config.topic"),
        (
            "config",
            json!({"retry_policy": {"max_retries": -1}}),
            "config.retry_policy.max_retries",
        ),
        ("sort", json!(1), "sort"),
    ] {
        let mut body = right.clone();
        body[field] = value.clone();
        for prefix in PREFIXES {
            let answer = post(&world, prefix, &body).await;
            answer.problem(422);
            let errors = answer.body["errors"].as_array().unwrap();
            let paths: Vec<_> = errors.iter().map(|error| &error["path"]).collect();
            assert_eq!(paths, [path], "{body}");
        }
    }
    // What the processor reads, and handlers that no processor has.
    let mut kafka = json!({"processor_name": "p", "processor_type": "kafka"});
    for topic in [
        "events.backend.service",
        "events.frontend.system_event",
        "orders",
    ] {
        kafka["config"] = json!({"topic": topic});
        let answer = post(&world, PREFIXES[0], &kafka).await;
        answer.problem(422);
        assert_eq!(answer.body["errors"][0]["path"], "config.topic");
    }
    let handler = json!({"processor_name": "p", "processor_type": "handler",
        "config": {"handler": "none"}});
    let answer = post(&world, PREFIXES[0], &handler).await;
    answer.problem(422);
    assert_eq!(answer.body["errors"][0]["path"], "config.handler");
    assert_eq!(world.database.count("event_processors").await.unwrap(), 0);
}

#[tokio::test]
async fn what_runs_for_all_is_the_default_tenants_to_see_and_switch() {
    let world = World::start_with(&[("AUTH_MODE", "off")]).await;
    let client = world.database.connect().await.unwrap();
    let sql = "insert into event_processors (processor_name, processor_type, from_code, tenant_id) \
        values ('h', 'handler', true, null), ('own', 'log', false, 'acme') returning processor_id::text";
    let id: String = client.query(sql, &[]).await.unwrap()[0].get(0);
    let ask = async |method: &str, path: &str| {
        let path = format!("/api/v1/events/processors{path}");
        let request = world.request(method, &path).header("x-tenant-id", "acme");
        Answer::of(request.send().await.unwrap()).await
    };
    let listed = ask("GET", "").await.ok();
    assert_eq!(
        (&listed["total"], &listed["processors"][0]["processor_name"]),
        (&json!(1), &json!("own"))
    );
    ask("GET", &format!("/{id}")).await.problem(404);
    ask("PUT", &format!("/{id}/toggle")).await.problem(404);
    assert_eq!(
        world.get("/api/v1/events/processors").await.ok()["processors"][0]["from_code"],
        true
    );
    assert_eq!(
        world
            .database
            .count("event_processors where enabled")
            .await
            .unwrap(),
        2
    );
}

#[tokio::test]
async fn a_handler_of_the_code_is_only_switched_on_and_off() {
    let world = World::start().await;
    let client = world.database.connect().await.unwrap();
    let sql = "insert into event_processors (processor_name, processor_type, from_code, config) \
        values ('h', 'handler', true, '{\"handler\": \"h\"}') returning processor_id::text";
    let id: String = client.query_one(sql, &[]).await.unwrap().get(0);
    let path = format!("/api/v1/events/processors/{id}");
    let ask = async |method: &str, path: &str| {
        let request = world.request(method, path).json(&json!({"enabled": false}));
        Answer::of(request.send().await.unwrap()).await
    };
    assert!(
        ask("PUT", &path)
            .await
            .problem(409)
            .contains("comes with the code")
    );
    ask("DELETE", &path).await.problem(409);
    assert_eq!(
        ask("PUT", &format!("{path}/toggle")).await.ok()["enabled"],
        false
    );
    assert_eq!(world.get(&path).await.ok()["from_code"], true);
    world.get("/api/v1/events/processors/7").await.problem(404);
    // Its name is taken for all.
    let body = json!({"processor_name": "h", "processor_type": "log"});
    post(&world, PREFIXES[0], &body).await.problem(409);
    // Another one may run the same handler, on other events.
    let body =
        json!({"processor_name": "h2", "processor_type": "handler", "config": {"handler": "h"}});
    assert_eq!(post(&world, PREFIXES[0], &body).await.status, 201);
}

#[tokio::test]
async fn processors_are_listed_page_by_page() {
    let world = World::start().await;
    for (name, priority) in [("a", 1), ("b", 3), ("c", 2)] {
        let body = json!({"processor_name": name, "processor_type": "log", "priority": priority});
        assert_eq!(post(&world, PREFIXES[0], &body).await.status.as_u16(), 201);
    }
    let names = async |page: &str| {
        let list = world
            .get(&format!("/api/v1/events/processors{page}"))
            .await
            .ok();
        let all = list["processors"].as_array().unwrap().iter();
        let names: Vec<_> = all
            .map(|one| one["processor_name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(list["total"], names.len());
        names
    };
    assert_eq!(names("").await, ["b", "c", "a"]);
    assert_eq!(names("?limit=2").await, ["b", "c"]);
    assert_eq!(names("?limit=2&offset=2").await, ["a"]);
    let wrong = world.get("/api/v1/events/processors?offset=x").await;
    assert!(wrong.problem(422).contains("offset"));
}
