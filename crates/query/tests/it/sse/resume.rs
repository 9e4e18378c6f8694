use testkit::{LIMIT, eventually};

use super::publisher::{Live, next, next_reset, wait};

async fn published(live: &Live, user: &str, count: usize) -> Vec<String> {
    let messages: Vec<_> = (0..count).map(|n| ("a", n.to_string())).collect();
    live.publish_all(user, &messages).await
}

#[tokio::test]
async fn what_was_missed_comes_first_by_header_or_parameter() {
    let live = Live::start_with(&[("SSE_HISTORY", "all")]).await;
    let ids = published(&live, "u", 4).await;
    let mut by_header = live.open("u", Some(&ids[1])).await;
    let mut by_parameter = live
        .open(&format!("u?last_event_id={}", ids[1]), None)
        .await;
    // The URL is the one of the first time, the header the newer.
    let mut by_both = live
        .open(&format!("u?last_event_id={}", ids[0]), Some(&ids[1]))
        .await;
    let later = live.publish("u", "a", "4").await;
    for stream in [&mut by_header, &mut by_parameter, &mut by_both] {
        for (n, id) in [(2, &ids[2]), (3, &ids[3]), (4, &later)] {
            let message = next(stream).await;
            assert_eq!((message.data, &message.id), (n.to_string(), id));
        }
    }
    let opened = r#"tidegate_sse_opened_total{resume="after"}"#;
    assert_eq!(live.metric(opened).await, 3.0);
}

#[tokio::test]
async fn one_who_had_nothing_yet_can_resume_too() {
    let live = Live::start().await;
    let mut stream = live.open("u", None).await;
    let cursor = wait("the cursor", stream.wait_cursor()).await.unwrap();
    drop(stream);
    live.publish("u", "a", "missed").await;
    let mut stream = live.open("u", Some(&cursor)).await;
    assert_eq!(next(&mut stream).await.data, "missed");
}

#[tokio::test]
async fn an_id_that_is_none_begins_with_a_reset_and_goes_on() {
    let live = Live::start_with(&[("SSE_HISTORY", "all")]).await;
    published(&live, "u", 2).await;
    for (question, header) in [
        ("u", Some("x")),
        ("u", Some("18446744073709551616-0")),
        ("u?last_event_id=1", None),
        ("u?last_event_id=%FF%00", None),
        ("u?last_event_id=-1-2", None),
    ] {
        let mut stream = live.open(question, header).await;
        assert_eq!(next_reset(&mut stream).await, "malformed", "{question}");
        let cursor = stream.last_event_id().unwrap().to_owned();
        live.publish("u", "a", "after").await;
        assert_eq!(next(&mut stream).await.data, "after");
        // Resuming at the cursor of the reset works.
        let mut resumed = live.open("u", Some(&cursor)).await;
        assert_eq!(next(&mut resumed).await.data, "after");
    }
    let resets = r#"tidegate_sse_resets_total{reason="malformed"}"#;
    assert_eq!(live.metric(resets).await, 5.0);
}

#[tokio::test]
async fn history_that_is_gone_is_told_with_its_reason() {
    let live = Live::start_with(&[("SSE_CHANNEL_MAXLEN", "10"), ("SSE_HISTORY", "all")]).await;
    let ids = published(&live, "u", 1_000).await;
    let mut trimmed = live.open("u", Some(&ids[0])).await;
    assert_eq!(next_reset(&mut trimmed).await, "trimmed");

    // Between two messages, where there is none.
    let (ms, seq) = ids[999].split_once('-').unwrap();
    let nothing = format!("{ms}-{}", seq.parse::<u64>().unwrap() + 1_000);
    let mut unknown = live.open("u", Some(&nothing)).await;
    assert_eq!(next_reset(&mut unknown).await, "unknown");
    let mut future = live.open("u", Some("99999999999999-0")).await;
    assert_eq!(next_reset(&mut future).await, "unknown");

    live.mark_gap().await;
    // Open streams are reset, and so is a client that resumes.
    for stream in [&mut trimmed, &mut unknown, &mut future] {
        assert_eq!(next_reset(stream).await, "gap");
    }
    let mut resumed = live.open("u", Some(&ids[999])).await;
    assert_eq!(next_reset(&mut resumed).await, "gap");
    let last = live.publish("u", "a", "after").await;
    for stream in [&mut trimmed, &mut unknown, &mut future, &mut resumed] {
        assert_eq!(next(stream).await.id, last);
    }
}

#[tokio::test]
async fn a_channel_that_was_quiet_too_long_is_told_of() {
    let live = Live::start_with(&[("SSE_CHANNEL_TTL", "1"), ("SSE_HISTORY", "all")]).await;
    let id = live.publish("u", "a", "old").await;
    eventually("it expires", LIMIT, || async {
        let mut stream = live.open("u", Some(&id)).await;
        match tokio::time::timeout(std::time::Duration::from_millis(300), stream.next()).await {
            Ok(Ok(Some(event))) => Ok::<_, String>(event.data),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let mut stream = live.open("u", Some(&id)).await;
    assert_eq!(next_reset(&mut stream).await, "expired");
}
