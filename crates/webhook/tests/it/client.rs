use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use testkit::{LIMIT, Receiver, Reply};
use webhook::{Answer, Client, Message, Networks, Secret, WebhookConfig};

const BODY: &[u8] = br#"{"event_type":"order.placed","data":{"n":1}}"#;

fn config(allowed: &[&str]) -> WebhookConfig {
    WebhookConfig {
        networks: Networks::new(allowed.iter().map(|net| net.parse().unwrap()).collect()),
        connect_timeout: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
    }
}

fn message(secrets: &[Secret], timestamp: i64) -> Message<'static> {
    Message::signed(
        "id-1",
        timestamp,
        "application/json",
        Bytes::from_static(BODY),
        secrets,
    )
}

async fn send(client: &Client, url: &str) -> Answer {
    let sending = client.send(url, message(&[Secret::of([1; 32])], 1_800_000_000));
    // Ends what hangs.
    tokio::time::timeout(LIMIT, sending).await.unwrap()
}

fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    since.as_secs().try_into().unwrap()
}

#[tokio::test]
async fn receivers_verify_what_is_sent_and_refuse_what_was_not() {
    let receiver = Receiver::start(|_, _| Reply::status(204)).await.unwrap();
    let client = Client::new(&config(&["127.0.0.0/8"])).unwrap();
    let (new, old, other) = (
        Secret::of([1; 32]),
        Secret::of([2; 32]),
        Secret::of([3; 32]),
    );
    let answer = client
        .send(&receiver.url(), message(&[new.clone(), old.clone()], now()))
        .await;
    assert!(answer.delivered(), "{answer:?}");
    let stale = client
        .send(
            &receiver.url(),
            message(std::slice::from_ref(&new), now() - 301),
        )
        .await;
    assert!(stale.delivered(), "{stale:?}");

    let requests = receiver.received();
    let [sent, stale] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(sent.line, "POST /hook");
    assert_eq!(sent.header("content-type"), "application/json");
    assert_eq!((sent.header("webhook-id"), &sent.body[..]), ("id-1", BODY));
    let verify = |secret: &Secret, request: &testkit::Request, body: &[u8]| {
        let mut headers = HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, request.header(name).parse().unwrap());
        }
        let verifier = standardwebhooks::Webhook::new(&secret.expose()).unwrap();
        verifier.verify(body, &headers).is_ok()
    };
    assert!(
        verify(&new, sent, BODY) && verify(&old, sent, BODY),
        "both hold while rotating"
    );
    assert!(!verify(&other, sent, BODY), "another secret");
    assert!(!verify(&new, sent, b"{}"), "another body");
    assert!(!verify(&new, stale, BODY), "older than five minutes");
    let mut id = sent.clone();
    id.headers.insert("webhook-id".into(), "id-2".into());
    assert!(!verify(&new, &id, BODY), "another id");
}

#[tokio::test]
async fn a_bad_receiver_fails_its_attempt_and_no_more() {
    let client = Client::new(&config(&["127.0.0.0/8"])).unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
    let many: String = (0..5_000).map(|n| format!("h{n}: x\r\n")).collect();
    let raw = |text: &str, pause, endless| Reply::Raw {
        bytes: text.as_bytes().to_vec(),
        pause: Duration::from_millis(pause),
        endless,
    };
    for (what, reply, status, error) in [
        ("silent", Reply::Silence, None, true),
        (
            "redirects",
            Reply::Status(302, vec!["location: /other".into()], Duration::ZERO),
            Some(302),
            false,
        ),
        (
            "redirects to metadata",
            Reply::Status(
                307,
                vec!["location: http://169.254.169.254/".into()],
                Duration::ZERO,
            ),
            Some(307),
            false,
        ),
        (
            "slow head",
            raw("HTTP/1.1 200 OK\r\n", 100, true),
            None,
            true,
        ),
        (
            "slow body",
            raw(&format!("{head}{}", "x".repeat(99)), 5, true),
            Some(200),
            true,
        ),
        ("closes at once", Reply::raw(""), None, true),
        (
            "closes in the head",
            Reply::raw("HTTP/1.1 200 OK\r\nconte"),
            None,
            true,
        ),
        (
            "closes in the body",
            Reply::raw(format!("{head}x")),
            Some(200),
            true,
        ),
        (
            "garbage",
            Reply::raw("\0\u{1}\u{2}garbage\r\n\r\n"),
            None,
            true,
        ),
        (
            "garbage header",
            Reply::raw("HTTP/1.1 200 OK\r\n\u{1}: \0\r\n\r\n"),
            None,
            true,
        ),
        (
            "endless header",
            raw("x-y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 0, true),
            None,
            true,
        ),
        (
            "many headers",
            Reply::raw(format!("HTTP/1.1 200 OK\r\n{many}\r\n")),
            None,
            true,
        ),
        (
            "late",
            Reply::Status(200, vec![], Duration::from_secs(5)),
            None,
            true,
        ),
    ] {
        let receiver = Receiver::start(move |_, _| reply.clone()).await.unwrap();
        let answer = send(&client, &receiver.url()).await;
        assert!(!answer.delivered(), "{what}: {answer:?}");
        assert_eq!(
            (answer.status, answer.error.is_some()),
            (status, error),
            "{what}: {answer:?}"
        );
        assert_eq!(receiver.received().len(), 1, "{what}");
    }
    // Endless, quickly, with a status: read up to the bound, and delivered.
    let flood = raw(&format!("{head}{}", "x".repeat(100_000)), 0, true);
    let receiver = Receiver::start(move |_, _| flood.clone()).await.unwrap();
    let answer = send(&client, &receiver.url()).await;
    assert!(answer.delivered(), "{answer:?}");
    assert_eq!(answer.excerpt.len(), 1_000);
    // A compressed bomb is bytes like others.
    let bomb = Reply::Status(200, vec!["content-encoding: gzip".into()], Duration::ZERO);
    let receiver = Receiver::start(move |_, _| bomb.clone()).await.unwrap();
    assert_eq!(send(&client, &receiver.url()).await.excerpt, "ok");

    let busy = Reply::Status(429, vec!["retry-after: 7".into()], Duration::ZERO);
    let receiver = Receiver::start(move |_, _| busy.clone()).await.unwrap();
    let answer = send(&client, &receiver.url()).await;
    assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
    assert_eq!(answer.why(), "the endpoint answered 429");
    let closed = send(&client, "http://127.0.0.1:1/").await;
    assert!(
        closed.error.is_some() && closed.status.is_none(),
        "{closed:?}"
    );
}

#[tokio::test]
async fn names_that_lead_inside_reach_nothing_whatever_they_say_next() {
    let receiver = Receiver::start(|_, _| Reply::status(200)).await.unwrap();
    let port = receiver.port();
    // Each name resolves to this; `rebind` to something public first, to loopback ever after.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let lookup: webhook::client::Lookup = Arc::new(move |name| {
        let nth = counted.fetch_add(1, Ordering::SeqCst);
        let addresses: Vec<&str> = match name.as_str() {
            "rebind.test" if nth == 0 => vec!["192.0.2.1:0"],
            "mixed.test" => vec!["10.0.0.1:0", "127.0.0.1:0", "[::1]:0"],
            "mapped.test" => vec!["[::ffff:127.0.0.1]:0"],
            "nat64.test" => vec!["[64:ff9b::7f00:1]:0"],
            "metadata.test" => vec!["169.254.169.254:0", "[fd00:ec2::254]:0"],
            "any.test" => vec!["0.0.0.0:0", "[::]:0"],
            _ => vec!["127.0.0.1:0"],
        };
        let addresses: Vec<SocketAddr> = addresses.iter().map(|one| one.parse().unwrap()).collect();
        Box::pin(async move { Ok(addresses) })
    });
    // The first answer for `rebind.test` is allowed, and leads nowhere.
    let client = Client::with_lookup(&config(&["192.0.2.0/24"]), lookup).unwrap();
    client
        .endpoint(&format!("http://rebind.test:{port}/"))
        .await
        .unwrap();
    for name in [
        "rebind", "mixed", "mapped", "nat64", "metadata", "any", "loopback",
    ] {
        let url = format!("http://{name}.test:{port}/");
        let answer = send(&client, &url).await;
        let error = answer.error.unwrap();
        assert!(error.contains("may not be reached"), "{name}: {error}");
        let registered = client.endpoint(&url).await;
        assert!(registered.is_err(), "{name}: {registered:?}");
    }
    for url in [
        "http://127.0.0.1",
        "http://2130706433",
        "http://[::ffff:127.0.0.1]",
        "http://0",
    ] {
        let answer = send(&client, &format!("{url}:{port}/")).await;
        assert!(
            answer.error.is_some() && answer.status.is_none(),
            "{url}: {answer:?}"
        );
    }
    assert_eq!(receiver.received().len(), 0);

    // Pinned: one look-up a connection, and what it said is where the message goes.
    let lookup: webhook::client::Lookup = Arc::new(move |_| {
        let nth = asked.fetch_add(1, Ordering::SeqCst);
        let address = if nth.is_multiple_of(2) {
            "127.0.0.1:0"
        } else {
            "192.0.2.1:0"
        };
        Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
    });
    let before = receiver.received().len();
    let client = Client::with_lookup(&config(&["127.0.0.1/32", "192.0.2.0/24"]), lookup).unwrap();
    let sent = [
        send(&client, &format!("http://a.test:{port}/")).await,
        send(&client, &format!("http://b.test:{port}/")).await,
    ];
    assert_eq!(
        sent.iter().filter(|answer| answer.delivered()).count(),
        1,
        "{sent:?}"
    );
    assert_eq!(receiver.received().len(), before + 1);
}
