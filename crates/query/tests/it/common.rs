use std::io::Read;

use serde_json::{Value, json};

use crate::world::{Answer, PREFIXES, World, id};

#[tokio::test]
async fn words_of_routes_are_no_event_ids() {
    let world = World::start().await;
    for prefix in PREFIXES {
        for word in [
            "stats",
            "statistics",
            "history",
            "unprocessed",
            "dead-letters",
            "dead_letters",
        ] {
            world.get(&format!("{prefix}/{word}")).await.ok();
        }
        for path in ["query", "user/a", "users/a", "dead-letters/1"] {
            let answer = world.get(&format!("{prefix}/{path}")).await;
            assert!(
                !answer.body.to_string().contains("Event not found"),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn wrong_routes_and_methods_answer_in_json() {
    let world = World::start().await;
    for path in [
        "/nothing",
        "/api/v1/events",
        "/api/v1/events/",
        "/api/v1/events/a/b",
        "/api/v1",
    ] {
        assert!(
            world
                .get(path)
                .await
                .problem(404)
                .starts_with("No such route"),
            "{path}"
        );
    }
    for (method, path, allow) in [
        ("GET", "/api/v1/events/query", "POST"),
        ("POST", "/api/v1/events/stats", "GET, HEAD"),
        ("DELETE", "/api/events/some-id", "GET, HEAD"),
        ("PUT", "/api/events/user/u", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
    ] {
        let answer = Answer::of(world.request(method, path).send().await.unwrap()).await;
        answer.problem(405);
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
}

#[tokio::test]
async fn probes_metrics_and_request_ids() {
    let world = World::start().await;
    for path in ["/health", "/api/v1/health"] {
        let body = world.get(path).await.ok();
        let rest = json!([body["status"], body["service"], body["version"]]);
        assert_eq!(rest, json!(["healthy", "event_service", "1.0.0"]));
    }
    let ready = world.get("/ready").await.ok();
    assert_eq!(ready["checks"]["postgres"]["ok"], true, "{ready}");
    assert_eq!(ready["checks"]["schema"]["ok"], true, "{ready}");

    let request = world
        .request("GET", "/api/v1/events/stats")
        .header("x-request-id", "abc-1");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "abc-1");
    world.get("/api/v1/events/some-id").await.problem(404);
    let metrics = world
        .request("GET", "/metrics")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        r#"tidegate_query_http_request_duration_seconds_count{method="GET",route="/api/v1/events/stats",status="200"} 1"#,
        r#"tidegate_query_http_request_duration_seconds_count{method="GET",route="/api/v1/events/{event_id}",status="404"} 1"#,
        r#"tidegate_query_read_duration_seconds_count{read="statistics"} 1"#,
        r#"tidegate_database_pool_connections{state="max"} 8"#,
        "tidegate_query_read_failures_total{reason=\"unavailable\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let world = World::start().await;
    world.insert(&[json!({})]).await;
    for path in [
        format!("/api/v1/events/{}", id(0)),
        "/api/v1/events/stats".to_owned(),
        "/health".to_owned(),
    ] {
        let answer = world.request("HEAD", &path).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.text().await.unwrap(), "");
    }
}

#[tokio::test]
async fn large_answers_are_compressed_on_request() {
    let world = World::start().await;
    let events: Vec<Value> = (0..50)
        .map(|_| json!({"data": {"text": "a".repeat(100)}}))
        .collect();
    world.insert(&events).await;
    let plain = world
        .request("POST", "/api/v1/events/query")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert!(plain.headers().get("content-encoding").is_none());
    let plain = plain.bytes().await.unwrap();
    let answer = world
        .request("POST", "/api/v1/events/query")
        .header("accept-encoding", "gzip")
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let packed = answer.bytes().await.unwrap();
    assert!(
        packed.len() * 5 < plain.len(),
        "{} of {}",
        packed.len(),
        plain.len()
    );
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain);
}

#[tokio::test]
async fn the_description_lists_what_is_served() {
    let world = World::start().await;
    let document = world.get("/openapi.json").await.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let all = document["paths"].as_object().unwrap();
    assert!(all.contains_key("/api/v1/events/batch"), "of every service");
    let own = query::http::openapi::document().paths.paths;
    let paths: Vec<_> = own.keys().map(|path| (path, &all[path])).collect();
    assert!(paths.len() > 20, "{}", paths.len());
    let mut asked = 0;
    for (path, item) in &paths {
        // What is described is served: whatever the answer, it is not "no such route".
        let real = path
            .replace("{event_id}", "x")
            .replace("{user_id}", "u")
            .replace("{stream_id}", "order:7")
            .replace("{id}", "1");
        // Some paths take events too, with another method.
        let methods = item.as_object().unwrap().keys();
        for method in
            methods.filter(|method| own[path.as_str()].get.is_some() == (*method == "get"))
        {
            let request = world.request(&method.to_uppercase(), &real);
            let answer = request.send().await.unwrap();
            asked += 1;
            // Streams do not end.
            if answer.headers()["content-type"] == "text/event-stream" {
                assert_eq!(answer.status(), 200, "{method} {path}");
                continue;
            }
            let answer = Answer::of(answer).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            let detail = answer.body["detail"].as_str().unwrap_or_default();
            assert!(!detail.starts_with("No such route"), "{method} {path}");
        }
    }
    assert!(asked >= paths.len());
    let fields = &document["components"]["schemas"]["EventResponse"]["properties"];
    assert!(
        fields["event_id"].is_object() && fields["data"].is_object(),
        "{fields}"
    );
}
