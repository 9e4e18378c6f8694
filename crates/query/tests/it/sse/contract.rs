use testkit::LIMIT;

use super::publisher::{Live, next, next_parts, next_reset, silent_until, wait};
use crate::world::Answer;

#[tokio::test]
async fn a_stream_begins_at_once_and_keeps_proxies_from_buffering() {
    let live = Live::start().await;
    let request = live
        .world
        .request("GET", "/api/v1/sse/users/u")
        .header("accept-encoding", "gzip")
        .header("origin", "https://app.example.com");
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("x-accel-buffering", "no"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(answer.headers()[name], value, "{name}");
    }
    assert!(answer.headers().get("content-encoding").is_none());
    assert!(answer.headers().get("content-length").is_none());
    assert!(!answer.headers()["x-request-id"].is_empty());

    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        let chunk = wait("the first bytes", answer.chunk()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let (retry, cursor) = text.split_once("\n\n").unwrap();
    let retry: u32 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!((1_000..=5_000).contains(&retry), "{retry}");
    let id = cursor.strip_prefix("id: ").unwrap().trim_end();
    assert!(live::StreamId::parse(id).is_some(), "{text}");
}

#[tokio::test]
async fn messages_have_the_name_of_their_type_unless_told_otherwise() {
    let live = Live::start().await;
    let mut named = live.listen("u").await;
    let mut unnamed = live.listen("u?named=false").await;
    let mut other = live.listen("v").await;
    let id = live.publish("u", "user.created", r#"{"n":1}"#).await;
    let data = r#"{"n":1}"#.to_owned();
    let expected = ("user.created".to_owned(), id.clone(), data.clone());
    assert_eq!(next_parts(&mut named).await, expected);
    let expected = ("message".to_owned(), id, data);
    assert_eq!(next_parts(&mut unnamed).await, expected);
    live.publish("v", "a", "for v").await;
    assert_eq!(next(&mut other).await.data, "for v");
    assert_eq!(live.metric("tidegate_sse_connections").await, 3.0);
    assert_eq!(live.metric("tidegate_sse_users").await, 2.0);
    live.wait_metric("tidegate_sse_messages_total", 3.0).await;
    let opened = r#"tidegate_sse_opened_total{resume="live"}"#;
    assert_eq!(live.metric(opened).await, 3.0);
}

#[tokio::test]
async fn types_with_a_name_of_the_stream_itself_come_without_a_name() {
    let live = Live::start().await;
    let mut all = live.listen("u").await;
    let mut some = live.listen("u?types=reset,open").await;
    for own in ["reset", "error", "open"] {
        let data = format!(r#"{{"event_type":"{own}"}}"#);
        let id = live.publish("u", own, &data).await;
        let expected = ("message".to_owned(), id, data);
        assert_eq!(next_parts(&mut all).await, expected);
        if own != "error" {
            assert_eq!(next_parts(&mut some).await, expected);
        }
    }
    live.mark_gap().await;
    assert_eq!(next_reset(&mut all).await, "gap");
}

#[tokio::test]
async fn only_the_types_asked_for_come() {
    let live = Live::start().await;
    let mut some = live
        .listen("u?types=user.*,order.paid&types=**.failed")
        .await;
    let types = [
        "user.created",
        "order.created",
        "order.paid",
        "a.b.failed",
        "users",
        "user.profile.updated",
    ];
    let messages: Vec<_> = types.iter().map(|t| (*t, "{}".to_owned())).collect();
    let ids = live.publish_all("u", &messages).await;
    for (event, id) in [(0, 0), (2, 2), (3, 3), (5, 5)].map(|(t, i)| (types[t], &ids[i])) {
        let message = next(&mut some).await;
        assert_eq!((message.event.as_str(), &message.id), (event, id));
    }
}

#[tokio::test]
async fn quiet_streams_get_heartbeats_and_unwanted_messages_move_the_cursor() {
    let live = Live::start_with(&[("SSE_HEARTBEAT_SECONDS", "1")]).await;
    let mut quiet = live.listen("quiet").await;
    let mut stream = live.listen("u?types=wanted").await;
    let passed = live.publish("u", "unwanted", "{}").await;
    let moved = silent_until(&mut stream, |stream| {
        stream.last_event_id() == Some(passed.as_str())
    });
    wait("the cursor moves", moved).await;
    let heartbeats = silent_until(&mut quiet, |stream| stream.comments() >= 3);
    wait("heartbeats", heartbeats).await;
    drop(stream);
    let wanted = live.publish("u", "wanted", "1").await;
    let mut resumed = live.open("u?types=wanted", Some(&passed)).await;
    let message = next_parts(&mut resumed).await;
    assert_eq!(message, ("wanted".to_owned(), wanted, "1".to_owned()));
}

#[tokio::test]
async fn users_may_have_any_name() {
    let live = Live::start().await;
    for (path, user) in [
        ("a%2Fb", "a/b"),
        ("a%25b", "a%b"),
        ("a+b", "a+b"),
        ("%F0%9F%98%80%20x", "😀 x"),
        ("a:b@c", "a:b@c"),
    ] {
        let mut stream = live.listen(path).await;
        live.publish(user, "a", user).await;
        assert_eq!(next(&mut stream).await.data, user);
    }
    let long = "é".repeat(255);
    let mut stream = live.listen(&"%C3%A9".repeat(255)).await;
    live.publish(&long, "a", "long").await;
    assert_eq!(next(&mut stream).await.data, "long");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let live = Live::start().await;
    let many: Vec<_> = (0..33).map(|n| format!("t{n}")).collect();
    for (question, field) in [
        ("a".repeat(256), "user_id"),
        ("a%00b".to_owned(), "user_id"),
        ("%20".to_owned(), "user_id"),
        (format!("u?types={}", many.join(",")), "types"),
        (format!("u?types={}", "a".repeat(256)), "types"),
        ("u?types=a%00".to_owned(), "types"),
        ("u?named=maybe".to_owned(), "named"),
    ] {
        let answer = live.get(&question).await;
        let status = if question == "%20" { 400 } else { 422 };
        answer.problem(status);
        assert_eq!(answer.body["errors"][0]["path"], field, "{question}");
    }
    // Names that mean nothing are ignored, here as everywhere.
    drop(live.listen("u?colour=red").await);
    let post = live.world.request("POST", "/api/v1/sse/users/u");
    let answer = Answer::of(post.send().await.unwrap()).await;
    answer.problem(405);
    live.world.get("/api/v1/sse/users").await.problem(404);
}

#[tokio::test]
async fn head_opens_no_stream() {
    let live = Live::start().await;
    let head = live.world.request("HEAD", "/api/v1/sse/users/u");
    let answer = tokio::time::timeout(LIMIT, head.send())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.text().await.unwrap(), "");
    assert_eq!(live.metric("tidegate_sse_connections").await, 0.0);
    let opened = r#"tidegate_sse_opened_total{resume="live"}"#;
    assert_eq!(live.metric(opened).await, 0.0);
}

#[tokio::test]
async fn pages_of_other_origins_may_listen_if_they_are_named() {
    let live = Live::start_with(&[("CORS_ALLOWED_ORIGINS", "https://a.example")]).await;
    let preflight = live
        .world
        .request("OPTIONS", "/api/v1/sse/users/u")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "last-event-id");
    let answer = preflight.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let allowed = &answer.headers()["access-control-allow-origin"];
    assert_eq!(allowed, "https://a.example");
    // And ask what it is told to ask after a reset, with cookies where a proxy wants them.
    for (origin, allowed) in [("https://a.example", true), ("https://b.example", false)] {
        for path in [
            "/api/v1/sse/users/u",
            "/api/v1/events/user/u",
            "/api/events/history",
            "/api/v1/events/none",
        ] {
            let request = live.world.request("GET", path).header("origin", origin);
            let answer = request.send().await.unwrap();
            let header = |name: &str| answer.headers().contains_key(name);
            let named = header("access-control-allow-origin");
            assert_eq!(named, allowed, "{origin} at {path}");
            assert!(header("access-control-allow-credentials") || !allowed);
        }
    }
    let preflight = live
        .world
        .request("OPTIONS", "/api/v1/events/query")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "content-type,x-request-id",
        );
    assert_eq!(preflight.send().await.unwrap().status(), 200);
}
