//! Other people's clients, unmodified, send what they have; it arrives once, where
//! `docs/envelopes.md` says. Their programs are in `tests/sdks`; `deploy/local/parts install --with
//! sdks` fetches the clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testkit::{Browser, LIMIT, Proxy, Receiver, Reply, eventually};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::process::Command;

use crate::announcements::follow;
use crate::ledger::assert_counts;
use crate::sender::client;
use crate::world::{PATIENCE, World, beside_others, clients};

/// The time that all programs say.
const WHEN: OffsetDateTime = datetime!(2026-01-02 03:04:05.678 UTC);
const CALLS: [&str; 6] = ["track", "identify", "page", "screen", "group", "alias"];

/// Runs a program with an argument, such as an address, to its good end; returns what it says.
async fn run(program: &str, argument: &str) -> String {
    let interpreter = if program.ends_with(".py") {
        "python3"
    } else {
        "node"
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdks");
    let ended = Command::new(interpreter)
        .arg(directory.join(program))
        .arg(argument)
        .env("NODE_PATH", clients().join("node_modules"))
        .env("PYTHONPATH", clients().join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(LIMIT, ended).await;
    let ended = ended.unwrap_or_else(|_| panic!("{program} does not end"));
    let ended = ended.unwrap_or_else(|error| panic!("{interpreter}: {error}"));
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program}: {told}");
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

/// What is stored of an event that must be there once.
struct Stored {
    event_type: String,
    category: String,
    data: Value,
    context: Value,
}

async fn stored(world: &World, id: &str, user: &str) -> Stored {
    let query = "select event_type, event_category, data::text, context::text, user_id, timestamp \
        from events where client_event_id = $1";
    let rows = eventually("the event is stored", PATIENCE, || async {
        let rows = world.database.rows(query, &[&id]).await;
        let rows = rows.map_err(|error| error.to_string())?;
        (!rows.is_empty()).then_some(rows).ok_or(id.to_owned())
    })
    .await;
    assert_eq!(rows.len(), 1, "{id}");
    let row = &rows[0];
    assert_eq!(row.get::<_, &str>(4), user, "{id}");
    assert_eq!(row.get::<_, OffsetDateTime>(5), WHEN, "{id}");
    let json = |column: usize| serde_json::from_str(row.get(column)).unwrap();
    Stored {
        event_type: row.get(0),
        category: row.get(1),
        data: json(2),
        context: json(3),
    }
}

/// A receiver in Python verifies our webhooks with the library made for that.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_verified_by_the_library_of_python() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
        .start()
        .await;
    let receiver = Receiver::start(|_, _| Reply::status(200)).await.unwrap();
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let other = "whsec_MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let subscription = json!({
        "subscriber_name": "python", "callback_url": receiver.url(), "webhook_secret": secret,
    });
    let client = reqwest::Client::new();
    let url = system.query_url("/api/v1/events/subscriptions");
    let made = client.post(url).json(&subscription).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let event = json!({"event_type": "order.placed", "data": {"text": "ä 🙂"}});
    let url = system.ingest_url("/api/v1/events");
    let sent = client.post(url).json(&event).send().await.unwrap();
    assert!(sent.status().is_success(), "{sent:?}");
    let got = eventually("the webhook", PATIENCE, || async {
        receiver.received().into_iter().next().ok_or("none")
    })
    .await;
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Value = headers
        .map(|name| (name, got.header(name)))
        .into_iter()
        .collect();
    let body = String::from_utf8(got.body.to_vec()).unwrap();
    let message = json!({"secret": secret, "other": other, "headers": headers, "body": body});
    run("verify_webhook.py", &message.to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_segment_and_rudderstack_send_every_call_once() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let proxy = Proxy::start(&[system.ingest().port()]).await.unwrap();
    let url = proxy.url("");
    // One of them starts without a network, and sends again.
    proxy.close();
    let opened = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.open();
    };
    let _ = tokio::join!(run("segment.cjs", &url), opened);
    let _ = tokio::join!(run("rudderstack.cjs", &url), run("segment_sdk.py", &url));
    let users = [
        "segment-js",
        "rudder-gzip",
        "rudder-plain",
        "segment-py",
        "rudder-py",
    ];
    for user in users {
        for call in CALLS {
            let event = stored(&world, &format!("{user}-{call}"), user).await;
            assert_eq!(event.data["type"], call, "{user}");
            assert!(
                event.context["library"]["name"].is_string(),
                "{user} {call}"
            );
            let expected = match (call, user) {
                ("track", "segment-js") => ("Order Completed", "user_action"),
                ("track", "rudder-gzip" | "rudder-plain") => ("Contact Form Sent", "form_submit"),
                ("track", _) => ("Order Completed", "user_action"),
                ("page", _) => ("page", "page_view"),
                (call, _) => (call, "user_action"),
            };
            assert_eq!(
                (event.event_type.as_str(), event.category.as_str()),
                expected
            );
            match call {
                "track" => assert_eq!(event.data["properties"]["total"], 12.5),
                "identify" => {
                    // RudderStack's client for Python has them in the context alone.
                    let traits = [&event.data["traits"], &event.context["traits"]];
                    assert!(
                        traits.iter().any(|one| one["email"] == "a@example.com"),
                        "{user}"
                    );
                }
                "group" => assert_eq!(event.data["groupId"], "g1"),
                "alias" => assert_eq!(event.data["previousId"], "a1"),
                _ => assert!(event.data["name"].is_string(), "{user} {call}"),
            }
        }
    }
    assert_counts(&world, users.len() * CALLS.len()).await;
    system.assert_well();
}

/// A page with analytics.js as npm has it, which sends to that address.
async fn page(host: &str) -> Receiver {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdks/analytics.html");
    let page = std::fs::read_to_string(own).unwrap().replace("HOST", host);
    let script = clients().join("node_modules/@segment/analytics-next/dist/umd/index.js");
    let script = std::fs::read_to_string(script).unwrap();
    let answer = move |kind: &str, text: &str| {
        let length = text.len();
        let head = format!("content-type: {kind}\r\nconnection: close\r\ncontent-length: {length}");
        Reply::raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{text}"))
    };
    let server = Receiver::start(move |_, request| match request.line.as_str() {
        "GET /" => answer("text/html", &page),
        "GET /analytics.js" => answer("text/javascript", &script),
        _ => Reply::status(404),
    });
    server.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn analytics_js_in_a_browser_sends_every_call_once() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let page = page(&format!("127.0.0.1:{}", system.ingest().port())).await;
    let browser = Browser::start();
    let _tab = browser
        .open(&format!("http://127.0.0.1:{}/", page.port()))
        .await;
    for call in CALLS {
        let event = stored(&world, &format!("browser-js-{call}"), "browser-js").await;
        let library = &event.context["library"]["name"];
        assert_eq!(library, "analytics.js", "{call}");
        assert_eq!(event.data["type"], call);
    }
    assert_counts(&world, CALLS.len()).await;
    system.assert_well();
}

/// Each call is refused with 503 once; the second time it is taken and the answer is lost; then all is well.
#[tokio::test(flavor = "multi_thread")]
async fn analytics_js_sends_again_after_an_outage_and_each_call_is_there_once() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let port = system.ingest().port();
    let tried = Arc::<Mutex<BTreeMap<String, usize>>>::default();
    let attempts = Arc::clone(&tried);
    let front = Receiver::start(move |_, request| {
        let arrives = Reply::Forward {
            port,
            arrives: true,
        };
        let body = request.json();
        let Some(id) = body["messageId"].as_str() else {
            return arrives;
        };
        let mut tried = attempts.lock().unwrap();
        let attempt = tried.entry(id.to_owned()).or_default();
        *attempt += 1;
        match attempt {
            1 => Reply::raw(
                "HTTP/1.1 503 X\r\naccess-control-allow-origin: *\r\ncontent-length: 0\r\n\r\n",
            ),
            2 => Reply::Forward {
                port,
                arrives: false,
            },
            _ => arrives,
        }
    })
    .await
    .unwrap();
    let page = page(&format!("127.0.0.1:{}", front.port())).await;
    let browser = Browser::start();
    let _tab = browser
        .open(&format!("http://127.0.0.1:{}/", page.port()))
        .await;
    let all = CALLS.map(|call| format!("browser-js-{call}"));
    eventually("the client is content", PATIENCE, || async {
        let tried = tried.lock().unwrap().clone();
        let done = |id: &String| tried.get(id).is_some_and(|attempts| *attempts > 2);
        if all.iter().all(done) {
            Ok(())
        } else {
            Err(tried)
        }
    })
    .await;
    for id in &all {
        stored(&world, id, "browser-js").await;
    }
    assert_counts(&world, CALLS.len()).await;
    assert_eq!(world.database.count("dead_letters").await.unwrap(), 0);
    system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_cloudevents_send_every_mode_once() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let url = system.ingest_url("");
    let _ = tokio::join!(
        run("cloudevents.cjs", &url),
        run("cloudevents_sdk.py", &url)
    );
    for language in ["js", "py"] {
        for mode in ["binary", "structured", "batch-1", "batch-2"] {
            let id = format!("{language}/{mode}");
            let event = stored(&world, &id, &format!("user-{language}")).await;
            assert_eq!(event.event_type, "com.example.order.completed");
            assert_eq!(event.category, "order");
            assert_eq!(event.data["mode"], mode, "{id}");
            assert_eq!(event.data["total"], 12.5, "{id}");
            assert_eq!(event.data["name"], "Zoë €", "{id}");
            let attributes = &event.context["cloudevent"];
            assert_eq!(attributes["source"], "/shop/1", "{id}");
            let subject = if language == "js" {
                "order/42"
            } else {
                "order/42 \"ü%\""
            };
            assert_eq!(attributes["subject"], subject, "{id}");
        }
    }
    assert_counts(&world, 8).await;
    system.assert_well();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_cloudevents_read_webhooks_and_announcements() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let system = world
        .system()
        .env("WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
        .env("ANNOUNCEMENTS_FORMAT", "cloudevents")
        .env("PROCESSING_INTERVAL", 1)
        .start()
        .await;
    let endpoint = Receiver::start(|_, _| Reply::status(200)).await.unwrap();
    let subscriptions = system.query_url("/api/v1/events/subscriptions");
    let mut subscription = json!({
        "subscriber_name": "told", "callback_url": endpoint.url(), "format": "cloud",
    });
    let answer = client().post(&subscriptions).json(&subscription).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 422);
    assert!(
        answer
            .text()
            .await
            .unwrap()
            .contains("must be json or cloudevents")
    );
    subscription["format"] = "cloudevents".into();
    let answer = client().post(&subscriptions).json(&subscription).send();
    let made: Value = answer.await.unwrap().json().await.unwrap();
    assert_eq!(made["format"], "cloudevents", "{made}");

    let event = json!({
        "event_id": uuid::Uuid::now_v7(), "event_type": "order.placed", "user_id": "Zoë",
        "aggregate_type": "order", "aggregate_id": "7", "timestamp": "2026-01-02T03:04:05.678Z",
        "data": {"total": 12.5, "name": "Zoë €"},
    });
    let sent = client()
        .post(system.ingest_url("/api/events/create"))
        .json(&event)
        .send();
    assert_eq!(sent.await.unwrap().status(), 201);
    let hook = eventually("the webhook", PATIENCE, || async {
        endpoint.received().pop().ok_or("nothing came")
    })
    .await;
    assert_eq!(
        hook.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    let announced = tokio::task::block_in_place(|| follow(&world, "readers", 2));
    let mut messages = vec![json!({
        "over": "http", "headers": hook.headers, "body": BASE64_STANDARD.encode(&hook.body),
    })];
    messages.extend(announced.iter().map(|one| {
        json!({"over": "kafka", "headers": one.headers, "body": BASE64_STANDARD.encode(&one.payload)})
    }));
    let file = std::env::temp_dir().join(format!("{}.json", uuid::Uuid::new_v4()));
    std::fs::write(&file, Value::from(messages).to_string()).unwrap();
    for program in ["read_cloudevents.py", "read_cloudevents.cjs"] {
        let said = run(program, &file.display().to_string()).await;
        let read: Vec<Value> = serde_json::from_str(&said).unwrap();
        let attributes = &read[0]["attributes"];
        for (name, expected) in [
            ("type", "order.placed"),
            ("source", "/tidegate/default"),
            ("subject", "order:7"),
            ("userid", "Zoë"),
            ("aggregateid", "7"),
        ] {
            assert_eq!(attributes[name], expected, "{program}");
        }
        assert_eq!(attributes["id"], event["event_id"], "{program}");
        assert_eq!(read[0]["data"], event["data"], "{program}");
        let mut types: Vec<&str> = read[1..]
            .iter()
            .map(|one| one["attributes"]["type"].as_str().unwrap())
            .collect();
        types.sort_unstable();
        assert_eq!(
            types,
            ["event.stored", "event.subscription.created"],
            "{program}"
        );
        for one in &read[1..] {
            assert_eq!(
                one["attributes"]["source"], "/tidegate/default",
                "{program}"
            );
            let stored = one["attributes"]["type"] == "event.stored";
            assert!(
                !stored || one["data"]["event_id"] == event["event_id"],
                "{one}"
            );
        }
    }
    let _ = std::fs::remove_file(&file);
}
