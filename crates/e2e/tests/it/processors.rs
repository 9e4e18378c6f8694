//! Processors registered through the API: what is stored from then on goes to them.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{LIMIT, Message, Receiver, Reply, eventually, eventually_eq};
use uuid::Uuid;

use crate::SHAPE;
use crate::sender::client;
use crate::system::System;
use crate::world::{ANNOUNCEMENTS, BACKEND, Shape, World, beside_others};

async fn ask(system: &System, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let url = system.query_url(&format!("/api/v1/events/{path}"));
    let mut request = client().request(method, url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn get(system: &System, path: &str) -> Value {
    ask(system, Method::GET, path, None).await.1
}

async fn register(system: &System, processor: Value) -> String {
    let (status, answer) = ask(system, Method::POST, "processors", Some(processor)).await;
    assert_eq!(status, 201, "{answer}");
    answer["processor_id"].as_str().unwrap().to_owned()
}

/// Stores an event of that type; returns its id.
async fn send(system: &System, event_type: &str) -> String {
    let id = Uuid::now_v7().to_string();
    let event = json!({"event_id": id, "event_type": event_type, "user_id": "u", "data": {"n": 1}});
    let url = system.ingest_url("/api/events/create?wait=stored");
    let answer = client().post(url).json(&event).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    id
}

/// The receipt of an event, once nothing is left to be done with it.
async fn settled(system: &System, id: &str) -> Value {
    eventually("nothing left to do", LIMIT, || async {
        let receipt = get(system, &format!("{id}/receipt")).await;
        if receipt["status"] == "pending" {
            Err(receipt)
        } else {
            Ok(receipt)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_gets_what_is_stored_while_it_is_there_and_on() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().start().await;
    let logs = json!({"processor_name": "logs", "processor_type": "log", "priority": 7,
        "filters": {"event_types": ["order.*"]}});
    let before = send(&system, "order.placed").await;
    let id = register(&system, logs.clone()).await;
    let (status, again) = ask(&system, Method::POST, "processors", Some(logs)).await;
    assert_eq!((status, &again["status"]), (409, &json!(409)), "{again}");

    let (order, other) = (
        send(&system, "order.paid").await,
        send(&system, "user.paid").await,
    );
    let receipt = settled(&system, &order).await;
    assert_eq!(receipt["status"], "processed");
    let run = &receipt["processors"][0];
    assert_eq!(
        (
            &run["processor_name"],
            &run["status"],
            &run["attempts"],
            &run["due_at"]
        ),
        (&json!("logs"), &json!("success"), &json!(1), &json!(null))
    );
    for id in [&before, &other] {
        let receipt = settled(&system, id).await;
        assert_eq!(
            (&receipt["status"], &receipt["processors"]),
            (&json!("processed"), &json!([]))
        );
    }
    let event = get(&system, &order).await;
    assert_eq!(
        (&event["processors"], &event["retry_count"]),
        (&json!(["logs"]), &json!(0))
    );
    let listed = get(&system, "processors").await;
    assert_eq!(listed["total"], 1);
    assert_eq!(listed["processors"][0]["error_count"], 0);
    assert!(
        listed["processors"][0]["last_processed_at"].is_string(),
        "{listed}"
    );

    let status = client().get(system.processor_url("/api/v1/coordinator/status"));
    let status: Value = status.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&status["initialized"], &status["active_processors"]),
        (&json!(true), &json!(["logs"]))
    );
    assert_eq!(status["registered_handlers"], json!([]));
    assert!(
        status["background_tasks_count"].as_u64().unwrap() > 3,
        "{status}"
    );
    let publisher = if SHAPE == Shape::Split {
        "kafka"
    } else {
        "none"
    };
    assert_eq!(
        (&status["event_store_type"], &status["event_publisher_type"]),
        (&json!("postgresql"), &json!(publisher))
    );

    // Off: what is stored now is none of its business.
    let toggle = format!("processors/{id}/toggle");
    let (status, off) = ask(&system, Method::PUT, &toggle, None).await;
    assert_eq!((status, &off["enabled"]), (200, &json!(false)));
    let (_, off) = ask(
        &system,
        Method::PUT,
        &format!("{toggle}?enabled=false"),
        None,
    )
    .await;
    assert_eq!(off["enabled"], false);
    let quiet = send(&system, "order.paid").await;
    assert_eq!(settled(&system, &quiet).await["processors"], json!([]));
    let (_, on) = ask(
        &system,
        Method::PUT,
        &toggle,
        Some(json!({"enabled": true})),
    )
    .await;
    assert_eq!(on["enabled"], true);

    let change = json!({"filters": {"event_types": ["user.*"]}, "priority": -1});
    let path = format!("processors/{id}");
    let (status, changed) = ask(&system, Method::PUT, &path, Some(change)).await;
    assert_eq!(
        (status, &changed["priority"]),
        (200, &json!(-1)),
        "{changed}"
    );
    let user = send(&system, "user.paid").await;
    assert_eq!(
        settled(&system, &user).await["processors"][0]["status"],
        "success"
    );

    let (status, deleted) = ask(&system, Method::DELETE, &path, None).await;
    assert_eq!((status, &deleted["status"]), (200, &json!("deleted")));
    for (method, path) in [
        (Method::GET, &path),
        (Method::PUT, &toggle),
        (Method::DELETE, &path),
    ] {
        assert_eq!(ask(&system, method, path, None).await.0, 404);
    }
    let late = send(&system, "user.paid").await;
    assert_eq!(settled(&system, &late).await["processors"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_processor_gives_up_is_a_dead_letter_and_runs_again() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world.system().env("PROCESSING_INTERVAL", 1).start().await;
    register(
        &system,
        json!({"processor_name": "fine", "processor_type": "log"}),
    )
    .await;
    // A topic that the processor reads is refused, whoever asks for it.
    let round = json!({"processor_name": "round", "processor_type": "kafka",
        "config": {"topic": BACKEND}});
    let (status, refused) = ask(&system, Method::POST, "processors", Some(round)).await;
    assert_eq!(
        (status, &refused["errors"][0]["path"]),
        (422, &json!("config.topic")),
        "{refused}"
    );
    // Written past the API.
    let client = world.database.connect().await.unwrap();
    let sql = format!(
        "begin; insert into event.event_processors (tenant_id, processor_name, processor_type, config) \
         values ('default', 'round', 'kafka', '{{\"topic\": \"{BACKEND}\"}}'); \
         update event.rules_version set version = gen_random_uuid(); commit"
    );
    client.batch_execute(&sql).await.unwrap();

    let id = send(&system, "a.b").await;
    let receipt = settled(&system, &id).await;
    assert_eq!(receipt["status"], "failed");
    let runs = receipt["processors"].as_array().unwrap();
    let runs: Vec<_> = runs
        .iter()
        .map(|run| (&run["processor_name"], &run["status"]))
        .collect();
    let (fine, round) = (json!("fine"), json!("round"));
    assert_eq!(
        runs,
        [(&fine, &json!("success")), (&round, &json!("failed"))]
    );
    let letter = receipt["dead_letters"][0].clone();
    assert_eq!(
        (&letter["reason"], &letter["state"]),
        (&json!("handler_failed"), &json!("open"))
    );
    let ids = json!({"ids": [letter["id"]]});

    // Its event is as it is.
    let mut mended = ids.clone();
    mended["payload"] = json!("{}");
    let (status, refused) = ask(&system, Method::POST, "dead-letters/redrive", Some(mended)).await;
    assert_eq!(
        (status, &refused["errors"][0]["path"]),
        (400, &json!("payload")),
        "{refused}"
    );
    // It fails again, and is back under its number.
    let (_, answer) = ask(
        &system,
        Method::POST,
        "dead-letters/redrive",
        Some(ids.clone()),
    )
    .await;
    assert_eq!(answer["changed"], 1, "{answer}");
    let path = format!("dead-letters/{}", letter["id"]);
    eventually("it is back", LIMIT, || async {
        let letter = get(&system, &path).await;
        if letter["state"] == "open" {
            Ok(())
        } else {
            Err(letter)
        }
    })
    .await;
    let back = get(&system, &path).await;
    assert_eq!(
        (&back["attempts"], &back["history"][0]["action"]),
        (&json!(1), &json!("redriven"))
    );
    // Mended: it is done, and the dead letter is gone.
    let sql = "begin; update event.event_processors set processor_type = 'log', config = '{}' \
        where processor_name = 'round'; update event.rules_version set version = gen_random_uuid(); commit";
    client.batch_execute(sql).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    ask(&system, Method::POST, "dead-letters/redrive", Some(ids)).await;
    eventually_eq("dead letters", 0, || world.database.count("dead_letters")).await;
    let receipt = settled(&system, &id).await;
    assert_eq!(
        (&receipt["status"], &receipt["dead_letters"]),
        (&json!("processed"), &json!([]))
    );
    assert_eq!(world.database.count("processing_results").await.unwrap(), 2);
    assert_eq!(world.database.count("work").await.unwrap(), 0);
    if SHAPE == Shape::Split {
        announced(&world, &id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_posted_to_an_address_until_that_takes_it() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let builder = world.system().env("PROCESSING_INTERVAL", 1);
    let allowed = builder.env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8");
    let system = allowed.start().await;
    let receiver = Receiver::start(|n, _| Reply::status(if n == 0 { 503 } else { 204 }));
    let receiver = receiver.await.unwrap();
    let to = |url: String| {
        json!({"processor_name": "hook", "processor_type": "webhook",
            "filters": {"event_types": ["order.*"]},
            "config": {"url": url, "retry_policy": {"max_retries": 3, "backoff_seconds": [0]}}})
    };
    // The service itself, which would send the event back, and what is no address that may be reached.
    for url in [
        system.query_url("/api/events/create"),
        "http://10.0.0.1/hook".to_owned(),
        "ftp://example.com".to_owned(),
    ] {
        let (status, refused) = ask(&system, Method::POST, "processors", Some(to(url))).await;
        assert_eq!(
            (status, &refused["errors"][0]["path"]),
            (422, &json!("config.url")),
            "{refused}"
        );
    }
    register(&system, to(receiver.url())).await;
    let id = send(&system, "order.paid").await;
    let other = send(&system, "user.paid").await;
    let receipt = settled(&system, &id).await;
    let run = &receipt["processors"][0];
    assert_eq!(
        (&receipt["status"], &run["status"], &run["attempts"]),
        (&json!("processed"), &json!("success"), &json!(2)),
        "{receipt}"
    );
    settled(&system, &other).await;
    let received = receiver.received();
    assert_eq!(received.len(), 2, "{received:?}");
    for request in &received {
        let event = request.json();
        assert_eq!(request.header("webhook-id"), id);
        assert_eq!(
            (&event["event_id"], &event["event_type"], &event["data"]),
            (&json!(id), &json!("order.paid"), &json!({"n": 1}))
        );
        assert!(!request.headers.contains_key("webhook-signature"));
    }
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    let found = message.headers.iter().find(|(known, _)| known == name);
    found.map_or("", |(_, value)| value)
}

/// Both subjects, in the form of S4-99 and S4-100.
async fn announced(world: &World, id: &str) {
    let sent = eventually("announced", LIMIT, || async {
        let messages = world.kcat.consume(&world.topic(ANNOUNCEMENTS)).await;
        let messages = messages.map_err(|error| error.to_string())?;
        let all: Vec<(String, Value)> = messages
            .iter()
            .map(|message| {
                let subject = header(message, "subject").to_owned();
                (
                    subject,
                    serde_json::from_str(message.payload.as_deref().unwrap()).unwrap(),
                )
            })
            .filter(|(subject, body): &(String, Value)| {
                subject.starts_with("event.processed.") && body["event_id"] == id
            })
            .collect();
        // Fine and, in the end, round; twice a failure.
        if all.len() == 4 {
            Ok(all)
        } else {
            Err(format!("{all:?}"))
        }
    })
    .await;
    let of = |name: &str, subject: &str| {
        let of = sent
            .iter()
            .filter(|(s, body)| s == subject && body["processor_name"] == name);
        of.map(|(_, body)| body.clone()).collect::<Vec<_>>()
    };
    let success = &of("fine", "event.processed.success")[0];
    assert_eq!(success["status"], "success");
    assert!(
        success["processed_at"].is_string() && success["duration_ms"].is_u64(),
        "{success}"
    );
    assert_eq!(of("round", "event.processed.success").len(), 1);
    let failed = of("round", "event.processed.failed");
    assert_eq!(failed.len(), 2);
    let why = format!("{BACKEND} is read by this processor: the event would go round for ever");
    for failed in failed {
        assert_eq!(failed["error_message"], why);
        assert_eq!(
            (
                &failed["error_type"],
                &failed["retry_count"],
                &failed["will_retry"]
            ),
            (&json!("failed"), &json!(0), &json!(false))
        );
        assert!(failed["failed_at"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_forwarded_to_a_topic_of_its_own() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    if SHAPE == Shape::AllInOne {
        return;
    }
    let system = world.system().start().await;
    let forward = json!({"processor_name": "to billing", "processor_type": "kafka",
        "filters": {"event_types": ["order.*"]}, "config": {"topic": "billing.orders"}});
    register(&system, forward).await;
    let id = send(&system, "order.paid").await;
    assert_eq!(
        settled(&system, &id).await["processors"][0]["status"],
        "success"
    );
    let messages = world
        .kcat
        .consume(&world.topic("billing.orders"))
        .await
        .unwrap();
    assert_eq!(messages.len(), 1);
    let event: Value = serde_json::from_str(messages[0].payload.as_deref().unwrap()).unwrap();
    assert_eq!(
        (&event["event_id"], &event["event_type"]),
        (&json!(id), &json!("order.paid"))
    );
    assert_eq!(header(&messages[0], "processor"), "to billing");
}
