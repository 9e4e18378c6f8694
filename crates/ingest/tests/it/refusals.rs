//! Bad input is refused with the documented status, and nothing of it reaches the log.

use serde_json::Value;
use testkit::TestService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::{BACKEND, Gateway, gzip};

const ONE: [&str; 6] = [
    "/api/events",
    "/api/v1/events",
    "/api/events/create",
    "/api/v1/events/create",
    "/api/frontend/events",
    "/api/v1/events/frontend",
];
const MANY: [&str; 4] = [
    "/api/events/batch",
    "/api/v1/events/batch",
    "/api/frontend/events/batch",
    "/api/v1/events/frontend/batch",
];

type Headers<'a> = &'a [(&'a str, &'a str)];

/// An event as the routes for many want it.
fn wrapped(path: &str, event: &str) -> String {
    if path.contains("frontend") {
        format!(r#"{{"events":[{event}]}}"#)
    } else {
        format!("[{event}]")
    }
}

fn first_path(answer: &Value) -> &str {
    answer["errors"][0]["path"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_is_refused_on_every_route() {
    let gateway = Gateway::start().await;
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let cases = [
        // event, status of one, status of many, field
        (r#"{}"#.to_owned(), 422, 422, "event_type"),
        (r#"{"event_type":null}"#.to_owned(), 422, 422, "event_type"),
        (r#"{"event_type":7}"#.to_owned(), 422, 422, "event_type"),
        (r#"{"event_type":""}"#.to_owned(), 400, 422, "event_type"),
        (
            r#"{"event_type":"a\u0007"}"#.to_owned(),
            400,
            422,
            "event_type",
        ),
        (
            r#"{"event_type":"a","user_id":7}"#.to_owned(),
            422,
            422,
            "user_id",
        ),
        (
            r#"{"event_type":"a","data":"x"}"#.to_owned(),
            422,
            422,
            "data",
        ),
        (
            r#"{"event_type":"a","metadata":[]}"#.to_owned(),
            422,
            422,
            "metadata",
        ),
        (
            r#"{"event_type":"a","timestamp":"yesterday"}"#.to_owned(),
            422,
            422,
            "timestamp",
        ),
        (
            r#"{"event_type":"a","timestamp":"9000-01-01T00:00:00Z"}"#.to_owned(),
            422,
            422,
            "timestamp",
        ),
        (
            r#"{"event_type":"a","data":{"x":"\u0000"}}"#.to_owned(),
            422,
            422,
            "data.x",
        ),
        (
            r#"{"event_type":"a","data":{"x":"\ud800"}}"#.to_owned(),
            422,
            422,
            "data.x",
        ),
        (
            r#"{"event_type":"a","data":{"x":[1,1e400]}}"#.to_owned(),
            422,
            422,
            "data.x[1]",
        ),
        (
            format!(r#"{{"event_type":"a","data":{{"x":{deep}}}}}"#),
            422,
            422,
            "data.x",
        ),
        (
            format!(
                r#"{{"event_type":"a","data":{{"x":"{}"}}}}"#,
                "x".repeat(300_000)
            ),
            413,
            413,
            "",
        ),
        (
            format!(
                r#"{{"event_type":"a","data":{{"x":"{}"}}}}"#,
                "x".repeat(5 << 20)
            ),
            413,
            413,
            "",
        ),
        (r#"{"event_type":"a"#.to_owned(), 400, 400, ""),
    ];
    for (event, of_one, of_many, field) in &cases {
        let shown: String = event.chars().take(80).collect();
        for path in ONE {
            let answer = gateway.post(path, event.clone()).await;
            assert_eq!(answer.status, *of_one, "{path} {shown}: {answer:?}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let body = answer.json();
            assert!(!body["detail"].as_str().unwrap().is_empty());
            assert!(
                first_path(&body).starts_with(field),
                "{path} {shown}: {body}"
            );
        }
        for path in MANY {
            let answer = gateway.post(path, wrapped(path, event)).await;
            assert_eq!(answer.status, *of_many, "{path} {shown}: {answer:?}");
            let (body, index) = (
                answer.json(),
                if path.contains("frontend") {
                    "events[0]"
                } else {
                    "[0]"
                },
            );
            if *of_many == 422 {
                let want = format!("{index}.{field}");
                assert!(
                    first_path(&body).starts_with(&want),
                    "{path} {shown}: {body}"
                );
            }
        }
    }
    assert_eq!(gateway.count(BACKEND).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_on_every_route() {
    let gateway = Gateway::with(|builder| builder.env("MAX_BATCH_EVENTS", 10)).await;
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let zstd_bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 3).unwrap();
    let cut = gzip(br#"{"event_type":"a"}"#)[..20].to_vec();
    for path in ONE.into_iter().chain(MANY) {
        let many = MANY.contains(&path);
        let good = if many {
            wrapped(path, r#"{"event_type":"a"}"#)
        } else {
            r#"{"event_type":"a"}"#.to_owned()
        };
        let long_key = "k".repeat(256);
        let cases: [(Headers<'_>, Vec<u8>, u16); 14] = [
            (&[], b"".to_vec(), 400),
            (&[], b"not json".to_vec(), 400),
            (&[], b"{\"event_type\":\"\xff\"}".to_vec(), 400),
            (&[], b"7".to_vec(), 422),
            (
                &[("Content-Type", "application/xml")],
                good.clone().into(),
                415,
            ),
            (
                &[("Content-Type", "application/json; charset=utf-16")],
                good.clone().into(),
                415,
            ),
            (
                &[("Content-Type", "application/x-www-form-urlencoded")],
                good.clone().into(),
                415,
            ),
            (&[("Content-Encoding", "lzma")], good.clone().into(), 415),
            (&[("Content-Encoding", "gzip")], good.clone().into(), 400),
            (&[("Content-Encoding", "gzip")], cut.clone(), 400),
            (&[("Content-Encoding", "gzip")], bomb.clone(), 413),
            (&[("Content-Encoding", "zstd")], zstd_bomb.clone(), 413),
            (&[("Idempotency-Key", "a b")], good.clone().into(), 400),
            (&[("Idempotency-Key", &long_key)], good.clone().into(), 400),
        ];
        for (index, (headers, body, status)) in cases.into_iter().enumerate() {
            let answer = gateway.send("POST", path, headers, body).await;
            assert_eq!(
                answer.status, status,
                "{path} case {index} {headers:?}: {answer:?}"
            );
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let answer = gateway.send(method, path, &[], "").await;
            assert_eq!(answer.status, 405, "{method} {path}: {answer:?}");
            assert!(answer.header("allow").contains("POST"), "{answer:?}");
            assert!(answer.json()["detail"].is_string());
        }
    }
    // The wrong shape names the right route.
    for path in ONE {
        let answer = gateway.post(path, r#"[{"event_type":"a"}]"#).await;
        assert_eq!(answer.status, 422, "{path}");
        assert!(
            answer.json()["detail"].as_str().unwrap().contains("/batch"),
            "{answer:?}"
        );
    }
    for path in MANY {
        let (object, empty, over) = (
            r#"{"event_type":"a"}"#,
            wrapped(path, ""),
            wrapped(path, &["{\"event_type\":\"a\"}"; 11].join(",")),
        );
        assert_eq!(gateway.post(path, object).await.status, 422, "{path}");
        assert_eq!(gateway.post(path, empty).await.status, 422, "{path}");
        assert_eq!(gateway.post(path, over).await.status, 413, "{path}");
    }
    let answer = gateway.post("/api/nothing", "{}").await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["detail"].is_string());
    assert_eq!(gateway.count(BACKEND).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_given_up_and_a_declared_giant_is_not_read() {
    let gateway = Gateway::with(|builder| builder.env("BODY_TIMEOUT_SECONDS", 1)).await;
    for (length, sent, status) in [("100", "{\"event_type\":", "408"), ("99999999", "", "413")] {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.service.port()))
            .await
            .unwrap();
        let head = format!(
            "POST /api/events HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{sent}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(testkit::LIMIT, stream.read(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_settings_are_named_and_end_the_process() {
    let mut service = TestService::builder("ingest")
        .env("MAX_BODY_BYTES", "lots")
        .env("TRUSTED_PROXIES", "everybody")
        .spawn();
    let status = testkit::eventually("the end", testkit::LIMIT, || {
        let exited = service.exited();
        async move { exited.ok_or("it runs") }
    })
    .await;
    assert_eq!(status.code(), Some(2));
    let log = service.log();
    assert!(
        log.contains("MAX_BODY_BYTES") && log.contains("TRUSTED_PROXIES"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_sends_too_much_waits_and_no_other() {
    let gateway = Gateway::with(|builder| {
        builder
            .env("TENANT_EVENTS_PER_SECOND", 1)
            .env("MAX_BATCH_EVENTS", 10)
    })
    .await;
    let send = async |tenant: &str, count: usize| {
        let batch = format!(
            "[{}]",
            vec![r#"{"event_type":"a","data":{}}"#; count].join(",")
        );
        let headers = [
            ("content-type", "application/json"),
            ("x-tenant-id", tenant),
        ];
        gateway
            .send("POST", "/api/events/batch", &headers, batch)
            .await
    };
    assert_eq!(send("acme", 10).await.status, 201, "a whole batch at once");
    let refused = send("acme", 10).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    let seconds: u32 = refused.header("retry-after").parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    assert_eq!(send("other", 10).await.status, 201);
    let metrics = gateway.send("GET", "/metrics", &[], "").await.text;
    assert!(metrics.contains(r#"reason="tenant_rate""#), "{metrics}");
}
