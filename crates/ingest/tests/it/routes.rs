//! Every route, under every name, answers as documented, and the log has what was answered.

use std::io::Write;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::gateway::{BACKEND, Gateway, gzip};

const FRONTEND: &str = "events.frontend.business_action";

#[tokio::test(flavor = "multi_thread")]
async fn one_event_on_every_backend_route() {
    let gateway = Gateway::start().await;
    for path in ["/api/events", "/api/v1/events"] {
        let body = r#"{"event_type":"user_click","user_id":"12345","timestamp":"2024-01-01T12:00:00Z","metadata":{"page":"/home","button":"signup"}}"#;
        let answer = gateway.post(path, body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let received = answer.json();
        assert_eq!(received["message"], "Event received successfully");
        let id = text(&received["event_id"]);
        let (record, event) = gateway.record(BACKEND, &id).await;
        assert_eq!(record.key.as_deref(), Some("user:12345"));
        assert_eq!(
            record.headers,
            [
                ("subject", "events.backend.service.user_click"),
                ("tenant", "default"),
                ("content-type", "application/json"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(event["timestamp"], "2024-01-01T12:00:00Z");
        assert_eq!(
            event["metadata"],
            json!({"page": "/home", "button": "signup"})
        );
    }
    for path in ["/api/events/create", "/api/v1/events/create"] {
        let body = r#"{"event_type":"user.logout","event_source":"backend","event_category":"user_action","user_id":"u1","data":{"n":1},"session_id":"s","organization_id":"o","device_id":"d","correlation_id":"c","properties":{"p":1},"metadata":{"ip_address":"::1"},"context":{"request_id":"r"}}"#;
        let answer = gateway.post(path, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert!(!answer.header("x-request-id").is_empty());
        let created = answer.json();
        assert_eq!(created["timestamp"], created["created_at"]);
        assert_eq!(
            created,
            json!({
                "event_id": created["event_id"], "event_type": "user.logout", "event_source": "backend",
                "event_category": "user_action", "user_id": "u1", "session_id": "s",
                "organization_id": "o", "device_id": "d", "correlation_id": "c",
                "data": {"n": 1}, "metadata": {"ip_address": "::1"}, "context": {"request_id": "r"},
                "properties": {"p": 1}, "status": "pending",
                "timestamp": created["timestamp"], "created_at": created["timestamp"],
                "received_at": created["timestamp"], "updated_at": created["timestamp"],
                "tenant_id": "default", "version": "1.0.0", "schema_version": "1.0.0",
                "retry_count": 0, "processors": [], "aggregate_type": null, "aggregate_id": null,
                "expected_version": null, "stream_version": null, "client_event_id": null,
                "processed_at": null, "error_message": null,
            })
        );
        gateway.record(BACKEND, &text(&created["event_id"])).await;
    }
    let answer = gateway
        .post("/api/events/create", r#"{"event_type":"a"}"#)
        .await;
    assert_eq!(answer.json()["user_id"], Value::Null);
    assert_eq!(answer.json()["data"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_events_on_every_backend_route() {
    let gateway = Gateway::start().await;
    for path in ["/api/events/batch", "/api/v1/events/batch"] {
        // The sample of S0-29: unknown source and category fall to the defaults.
        let body = r#"[{"event_type":"user.logout","source":"web","category":"user","user_id":"a"},{"event_type":"product.view","source":"web","category":"product","user_id":"b"}]"#;
        let answer = gateway.post(path, body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let events = answer.json();
        let events = events.as_array().unwrap();
        let types: Vec<_> = events.iter().map(|event| &event["event_type"]).collect();
        assert_eq!(types, ["user.logout", "product.view"]);
        for event in events {
            assert_eq!(event["event_source"], "backend");
            assert_eq!(event["event_category"], "user_action");
            gateway.record(BACKEND, &text(&event["event_id"])).await;
        }
        let body = r#"[{"event_type":"a"},{"event_type":"b","user_id":7},{"event_type":"c"}]"#;
        let before = gateway.count(BACKEND).await;
        let answer = gateway.post(path, body).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert_eq!(answer.json()["errors"][0]["path"], "[1].user_id");
        assert_eq!(gateway.count(BACKEND).await, before);

        let answer = gateway.post(&format!("{path}?partial=true"), body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let partial = answer.json();
        assert_eq!(
            (&partial["accepted"], &partial["rejected"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(partial["events"].as_array().unwrap().len(), 2);
        assert_eq!(partial["errors"][0]["index"], 1);
        assert_eq!(partial["errors"][0]["path"], "[1].user_id");
        let answer = gateway.post(&format!("{path}?partial=true"), "[7]").await;
        assert_eq!(answer.status, 422, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frontend_events_on_every_route() {
    let gateway = Gateway::with(|builder| builder.env("TRUSTED_PROXIES", "127.0.0.0/8")).await;
    let headers = [
        ("Content-Type", "text/plain;charset=UTF-8"),
        ("User-Agent", "Browser/1"),
        ("Referer", "https://shop.example/"),
        ("X-Forwarded-For", "6.6.6.6, 203.0.113.9"),
    ];
    for path in ["/api/frontend/events", "/api/v1/events/frontend"] {
        let body = r#"{"event_type":"purchase","category":"business_action","page_url":"https://shop.example/cart","session_id":"s1","data":{"price":1.50},"metadata":{}}"#;
        let answer = gateway.send("POST", path, &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let collected = answer.json();
        assert_eq!(collected["status"], "accepted");
        assert_eq!(collected["message"], "Event published to stream");
        let (record, event) = gateway
            .record(FRONTEND, &text(&collected["event_id"]))
            .await;
        assert_eq!(record.key.as_deref(), Some("session:s1"));
        assert_eq!(record.headers[0].1, format!("{FRONTEND}.purchase"));
        assert_eq!(event["event_source"], "frontend");
        assert_eq!(
            event["context"],
            json!({
                "page_url": "https://shop.example/cart",
                "client_info": {
                    "ip": "203.0.113.9", "user_agent": "Browser/1", "referer": "https://shop.example/",
                },
            })
        );
    }
    for path in [
        "/api/frontend/events/batch",
        "/api/v1/events/frontend/batch",
    ] {
        let body = r#"{"events":[{"event_type":"login","category":"business_action"},{"event_type":"logout","category":"business_action"}],"client_info":{"browser":"Firefox","user_agent":"mine"}}"#;
        let answer = gateway.send("POST", path, &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let collected = answer.json();
        assert_eq!(collected["status"], "accepted");
        assert_eq!(collected["processed_count"], 2);
        assert_eq!(
            collected["message"],
            "Batch of 2 events published to stream"
        );
        let ids = collected["event_ids"].as_array().unwrap();
        assert_eq!(ids.len(), 2);
        for (id, event_type) in ids.iter().zip(["login", "logout"]) {
            let (_, event) = gateway.record(FRONTEND, &text(id)).await;
            assert_eq!(event["event_type"], event_type);
            assert_eq!(
                event["context"]["client_info"],
                json!({
                    "ip": "203.0.113.9", "user_agent": "mine", "browser": "Firefox",
                    "referer": "https://shop.example/",
                })
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_description() {
    let gateway = Gateway::start().await;
    for path in ["/health", "/api/v1/health"] {
        let body = gateway.get(path).await.json();
        assert_eq!(body["status"], "healthy");
        assert_eq!(body["service"], "event_service");
        assert_eq!(body["version"], "1.0.0");
    }
    for path in ["/api/frontend/health", "/api/v1/events/frontend/health"] {
        let mut body = gateway.get(path).await.json();
        let timestamp = body["timestamp"].take();
        assert!(timestamp.as_str().unwrap().ends_with('Z'));
        assert_eq!(
            body,
            json!({
                "status": "healthy", "service": "frontend-event-collection",
                "kafka_connected": true, "nats_connected": true, "timestamp": null,
            })
        );
    }
    assert_eq!(gateway.get("/ready").await.status, 200);
    let paths = gateway.get("/openapi.json").await.json()["paths"].clone();
    assert!(paths["/api/v1/events/batch"]["post"].is_object());
    assert_eq!(
        gateway
            .post("/api/events", r#"{"event_type":"a"}"#)
            .await
            .status,
        202
    );
    assert_eq!(gateway.post("/api/events", "{}").await.status, 422);
    let metrics = gateway.get("/metrics").await.text;
    for line in [
        "kafka_connected 1",
        "tidegate_ingest_inflight_bytes 0",
        r#"tidegate_ingest_events_total{reason="",result="accepted",route="events"} 1"#,
        r#"tidegate_ingest_events_total{reason="missing",result="rejected",route="events"} 1"#,
        r#"tidegate_ingest_request_seconds_count{route="events",status="2xx"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_settings_of_nats_are_ignored_with_a_warning() {
    let gateway = Gateway::with(|builder| builder.env("NATS_CLUSTER_ID", "events")).await;
    let log = gateway.service.log();
    let warning = log
        .lines()
        .find(|line| line.contains("no setting of NATS that Tidegate reads"));
    let warning: serde_json::Value = serde_json::from_str(warning.unwrap()).unwrap();
    assert_eq!(warning["level"], "WARN");
    assert_eq!(warning["variable"], "NATS_CLUSTER_ID");
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_are_unpacked() {
    let gateway = Gateway::start().await;
    let plain = br#"{"event_type":"packed","data":{"x":"y"}}"#;
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(plain).unwrap();
    let mut br = Vec::new();
    brotli::CompressorWriter::new(&mut br, 4096, 5, 22)
        .write_all(plain)
        .unwrap();
    for (encoding, body) in [
        ("gzip", gzip(plain)),
        ("deflate", zlib.finish().unwrap()),
        ("br", br),
        ("zstd", zstd::encode_all(&plain[..], 3).unwrap()),
        ("identity", plain.to_vec()),
    ] {
        let answer = gateway
            .send(
                "POST",
                "/api/events/create",
                &[("Content-Encoding", encoding)],
                body,
            )
            .await;
        assert_eq!(answer.status, 201, "{encoding}: {answer:?}");
        assert_eq!(answer.json()["data"], json!({"x": "y"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_envelopes_and_cloudevents() {
    let gateway = Gateway::start().await;
    let ce = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.paid","data":{"n":1},"userid":"u"}"#;
    for (path, content_type, body) in [
        ("/api/events/create", "application/cloudevents+json", ce.to_owned()),
        ("/api/events/create", "application/cloudevents+json; charset=UTF-8", ce.to_owned()),
        ("/api/v1/events/batch", "application/cloudevents-batch+json", format!("[{ce}]")),
        ("/api/events/create", "application/json", r#"{"id":"1","type":"order.paid","source":"shop","data":{"n":1,"user_id":"u"}}"#.to_owned()),
        ("/api/events/create", "application/json", r#"{"event_type":"order.paid","aggregate_id":"7","payload":{"n":1,"user_id":"u"}}"#.to_owned()),
        ("/api/events/create", "application/json", r#"{"event_type":"order.paid","aggregate_id":"7","event_data":{"n":1},"user_id":"u","occurred_at":"2024-01-01T00:00:00"}"#.to_owned()),
    ] {
        let answer = gateway.send("POST", path, &[("Content-Type", content_type)], body.clone()).await;
        assert_eq!(answer.status, 201, "{body}: {answer:?}");
        let mut event = answer.json();
        if let Some(first) = event.get(0) {
            event = first.clone();
        }
        assert_eq!(event["event_type"], "order.paid", "{body}");
        assert_eq!(event["user_id"], "u", "{body}");
        assert_eq!(event["data"]["n"], 1, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_has_the_same_id_and_traces_travel() {
    let gateway = Gateway::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("Idempotency-Key", "order-7"), ("traceparent", trace)];
    let body = r#"{"event_type":"a"}"#;
    let first = gateway
        .send("POST", "/api/events", &headers, body)
        .await
        .json();
    let second = gateway
        .send("POST", "/api/v1/events", &headers, body)
        .await
        .json();
    assert_eq!(first["event_id"], second["event_id"]);
    let (record, _) = gateway
        .record(BACKEND, first["event_id"].as_str().unwrap())
        .await;
    assert_eq!(
        record.headers[3],
        ("traceparent".to_owned(), trace.to_owned())
    );
    // A client id that is no UUID is mapped, and kept.
    let answer = gateway
        .post(
            "/api/events/create",
            r#"{"event_type":"a","event_id":"evt_1"}"#,
        )
        .await;
    assert_eq!(answer.json()["client_event_id"], "evt_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_call() {
    let gateway = Gateway::start().await;
    let preflight = [
        ("Origin", "https://shop.example"),
        ("Access-Control-Request-Method", "POST"),
        (
            "Access-Control-Request-Headers",
            "content-type,content-encoding,idempotency-key,anonymousid,authorization,traceparent,x-request-id",
        ),
    ];
    let answer = gateway
        .send("OPTIONS", "/api/frontend/events", &preflight, "")
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let origin = [("Origin", "https://shop.example")];
    let answer = gateway
        .send("POST", "/api/frontend/events", &origin, "{}")
        .await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("access-control-allow-origin"), "*");

    let strict =
        Gateway::with(|builder| builder.env("CORS_ALLOWED_ORIGINS", "https://a.example")).await;
    let answer = strict
        .send(
            "POST",
            "/api/frontend/events",
            &origin,
            r#"{"event_type":"a"}"#,
        )
        .await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    // A beacon with application/json comes with credentials, and asks before.
    let beacon = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let answer = strict
        .send("OPTIONS", "/api/frontend/events", &beacon, "")
        .await;
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    let origin = [("Origin", "https://a.example")];
    let answer = strict
        .send(
            "POST",
            "/api/frontend/events",
            &origin,
            r#"{"event_type":"a"}"#,
        )
        .await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://a.example"
    );
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_client_is_served_small_and_kept_while_it_is_the_same() {
    let gateway = Gateway::start().await;
    let script = include_str!("../../client/tidegate.js");
    let plain = gateway.get("/tidegate.js").await;
    assert_eq!((plain.status, plain.text.as_str()), (200, script));
    assert_eq!(
        plain.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    assert_eq!(plain.header("cache-control"), "public, max-age=300");
    assert_eq!(plain.header("cross-origin-resource-policy"), "cross-origin");
    let tag = plain.header("etag");
    for (known, status) in [(tag, 304), ("*", 304), ("W/\"other\"", 200)] {
        let asked = [("If-None-Match", known)];
        let answer = gateway.send("GET", "/tidegate.js", &asked, "").await;
        assert_eq!((answer.status, answer.header("etag")), (status, tag));
    }
    for (accepted, packed) in [("gzip, deflate, br", true), ("br, gzip;q=0", false)] {
        let asked = [("Accept-Encoding", accepted)];
        let answer = gateway.send("GET", "/tidegate.js", &asked, "").await;
        assert_eq!(answer.header("content-encoding") == "gzip", packed);
        assert!(answer.header("vary").contains("Accept-Encoding"));
        let bytes: usize = answer.header("content-length").parse().unwrap();
        assert!(if packed {
            bytes <= 6144
        } else {
            bytes == script.len()
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_segments_clients_come_by_every_path() {
    let gateway = Gateway::start().await;
    for (path, body) in [
        (
            "/v1/track",
            r#"{"event":"A Click","userId":"u","messageId":"m-1"}"#,
        ),
        (
            "/v1/t",
            r#"{"event":"A Click","userId":"u","messageId":"m-2"}"#,
        ),
        (
            "/v1/identify",
            r#"{"userId":"u","messageId":"m-3","traits":{"a":1}}"#,
        ),
        (
            "/v1/batch",
            r#"{"batch":[{"type":"page","userId":"u","messageId":"m-4"},7],"context":{"ip":"1"}}"#,
        ),
        (
            "/v1/import",
            r#"{"batch":[{"type":"alias","userId":"u","previousId":"a","messageId":"m-5"}]}"#,
        ),
        (
            "/webhooks/rudderstack",
            r#"[{"type":"screen","userId":"u","messageId":"m-6"},{"type":"none"}]"#,
        ),
        (
            "/webhooks/rudderstack",
            r#"{"type":"group","userId":"u","messageId":"m-7"}"#,
        ),
    ] {
        // What the browser's and RudderStack's clients declare.
        for media_type in ["text/plain", "application/x-www-form-urlencoded"] {
            let headers = [
                ("Content-Type", media_type),
                ("Authorization", "Basic d2s6"),
            ];
            let answer = gateway.send("POST", path, &headers, body).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let mut answer = answer.json();
            let errors = answer["errors"].take();
            assert_eq!(
                errors.is_array(),
                body.contains("7]") || body.contains("none")
            );
            answer.as_object_mut().unwrap().remove("errors");
            let expected = if path.starts_with("/v1") {
                json!({"success": true})
            } else {
                json!({"status": "accepted", "message": "Events queued for processing"})
            };
            assert_eq!(answer, expected);
        }
    }
    assert_eq!(gateway.count(BACKEND).await, 14);
    for (path, body, status) in [
        ("/v1/track", r#"{"userId":"u"}"#, 422),
        ("/v1/track", "[]", 422),
        ("/v1/identify", "{}", 422),
        ("/v1/batch", "{}", 422),
        ("/v1/batch", r#"{"batch":{}}"#, 422),
        (
            "/v1/import",
            r#"{"context":"x","batch":[{"type":"page","userId":"u","context":{}}]}"#,
            422,
        ),
        ("/v1/batch", r#"{"batch":[{"type":"none"}]}"#, 422),
        ("/v1/batch", "nonsense", 400),
        ("/webhooks/rudderstack", "[7]", 422),
        ("/v1/other", "{}", 404),
    ] {
        let answer = gateway.post(path, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rudderstacks_webhook_takes_what_is_signed() {
    let body = r#"{"type":"track","event":"a","userId":"u"}"#;
    let mac = Hmac::<Sha256>::new_from_slice(b"key").unwrap();
    let mac = mac.chain_update(body).finalize().into_bytes();
    let mac: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    for (form, right, wrong) in [
        ("hmac-sha256", mac.as_str(), "key"),
        ("secret", "key", mac.as_str()),
    ] {
        let gateway = Gateway::with(|builder| {
            builder
                .env("RUDDERSTACK_WEBHOOK_SECRET", "key")
                .env("RUDDERSTACK_SIGNATURE", form)
        })
        .await;
        let path = "/webhooks/rudderstack";
        let signed = [("X-Signature", right)];
        assert_eq!(gateway.send("POST", path, &signed, body).await.status, 200);
        for headers in [&[("X-Signature", wrong)][..], &[]] {
            let answer = gateway.send("POST", path, headers, body).await;
            assert_eq!(
                (answer.status, &answer.json()["detail"]),
                (401, &json!("Invalid signature"))
            );
        }
    }
}

#[tokio::test]
async fn waiting_until_an_event_is_stored_needs_a_database() {
    let gateway = Gateway::with(|builder| builder.env("DATABASE_URL", "")).await;
    let body = r#"{"event_type": "a"}"#;
    for (path, headers) in [
        ("/api/events?wait=stored", vec![]),
        ("/api/v1/events/create", vec![("prefer", "wait=5")]),
    ] {
        let answer = gateway.send("POST", path, &headers, body).await;
        assert_eq!(answer.status, 501, "{answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("DATABASE_URL"), "{detail}");
    }
    for (path, wrong) in [
        ("/api/events/create?wait=acked", "wait"),
        ("/api/frontend/events?wait=stored", "wait"),
    ] {
        let answer = gateway.send("POST", path, &[], body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.json()["errors"][0]["path"], wrong);
    }
    // What a page would rather have is passed over.
    let prefer = [("prefer", "wait=5")];
    let answer = gateway
        .send("POST", "/api/frontend/events", &prefer, body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloudevent_in_binary_mode_is_the_event_its_headers_say() {
    let gateway = Gateway::start().await;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "\"a 1\""),
        ("ce-source", "/sh%C3%B6p%2F1"),
        ("ce-type", "order%20placed %F0%9F%8D%94"),
        ("ce-time", "2024-05-01T12:00:00Z"),
        ("ce-userid", "u"),
        ("ce-comexample", "x"),
        ("content-type", "application/json"),
    ];
    let body = r#"{"type":"not.this","id":"nor-this","amount":1.50}"#;
    let answer = gateway
        .send("POST", "/api/events/create", &headers, body)
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let answer = answer.json();
    let own = domain::id::Space::CloudEvent("/shöp/1");
    let id = own
        .event_id(&domain::TenantId::default(), "a 1")
        .to_string();
    assert_eq!(answer["event_id"], id);
    assert_eq!(answer["client_event_id"], "a 1");
    let (_, event) = gateway.record(BACKEND, &id).await;
    for (field, want) in [
        ("event_type", json!("order placed 🍔")),
        ("user_id", json!("u")),
        ("timestamp", json!("2024-05-01T12:00:00Z")),
        ("data", serde_json::from_str(body).unwrap()),
    ] {
        assert_eq!(event[field], want, "{field}");
    }
    let kept = json!({"specversion": "1.0", "source": "/shöp/1", "comexample": "x", "datacontenttype": "application/json"});
    assert_eq!(event["context"]["cloudevent"], kept);

    // Data of any media type; each mistake is named.
    let bytes = headers[..7]
        .iter()
        .copied()
        .chain([("content-type", "image/png")]);
    let bytes: Vec<_> = bytes.collect();
    let answer = gateway
        .send("POST", "/api/events/create", &bytes, vec![0xff, 0])
        .await;
    assert_eq!(
        answer.json()["data"],
        json!({"base64": "/wA="}),
        "{answer:?}"
    );
    for (path, headers, body, status, says) in [
        (
            "/api/events",
            &headers[1..2],
            "{}",
            422,
            "specversion: is required",
        ),
        ("/api/events", &headers[..], "{", 400, "the data is no JSON"),
        (
            "/api/events",
            &[("ce-specversion", "1.0"), ("ce-id", "%ff")][..],
            "{}",
            422,
            "ce-id: must be UTF-8",
        ),
        ("/api/events/batch", &headers[..], "[]", 400, "is one event"),
        (
            "/api/frontend/events",
            &headers[..],
            "{}",
            400,
            "is one event",
        ),
    ] {
        let answer = gateway.send("POST", path, headers, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.text.contains(says), "{answer:?}");
    }
    // Structured and batch mode say what they are.
    let structured =
        json!({"specversion": "1.0", "id": "a 1", "source": "/shöp/1", "type": "order placed 🍔"});
    for (path, media_type, body) in [
        (
            "/api/events/create",
            "application/cloudevents+json",
            structured.clone(),
        ),
        (
            "/api/events/batch",
            "application/cloudevents-batch+json",
            json!([structured]),
        ),
    ] {
        let headers = [("content-type", media_type), ("ce-id", "ignored")];
        let answer = gateway.send("POST", path, &headers, body.to_string()).await;
        assert!(answer.text.contains(&id), "{answer:?}");
    }
}
