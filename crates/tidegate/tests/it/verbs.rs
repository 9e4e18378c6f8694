//! `tidegate stream`, `tidegate projection`, `tidegate dead-letters` and `tidegate receipt` against a running instance.

use serde_json::{Value, json};

use crate::command::{Directory, post, run, total};

fn lines(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_dead_letters_and_receipts_are_shown() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let url = dev.url("");
    let event = |expected: Value| {
        json!({"event_type": "order.step", "aggregate_type": "order", "aggregate_id": "7/b",
            "expected_version": expected})
    };
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(post(&dev, &event(Value::Null)).await.unwrap());
    }
    total(&dev, 3).await;
    let refused = post(&dev, &event(json!(9))).await.unwrap();

    let stream = run(&[
        "stream",
        "order:7/b",
        "--backward",
        "--limit",
        "2",
        "--json",
        "--url",
        &url,
    ])
    .await;
    let versions: Vec<_> = lines(&stream.out)
        .iter()
        .map(|e| e["stream_version"].clone())
        .collect();
    assert_eq!(versions, [3, 2], "{stream:?}");
    let stream = run(&["stream", "order:7/b", "--url", &url]).await;
    assert!(
        stream.out.contains("1  ") && stream.out.contains("order.step"),
        "{stream:?}"
    );
    let none = run(&["stream", "order:8", "--url", &url]).await;
    assert!(
        none.err.contains("no events in the stream order:8"),
        "{none:?}"
    );

    let create = run(&[
        "projection",
        "create",
        "steps",
        "order",
        "--fold",
        r#"{"rule":"count"}"#,
        "--json",
        "--url",
        &url,
    ])
    .await;
    assert_eq!(lines(&create.out)[0]["state"], "live", "{create:?}");
    let shown = run(&[
        "projection",
        "show",
        "order",
        "7/b",
        "--json",
        "--url",
        &url,
    ])
    .await;
    assert_eq!(
        lines(&shown.out)[0]["state"],
        json!({"count": 3}),
        "{shown:?}"
    );
    let list = run(&["projection", "list", "--url", &url]).await;
    assert!(list.out.contains("steps 1  order:*  live"), "{list:?}");
    let start = ["replay", "start", "--stream", "order:7/b", "--url", &url];
    let dry = run(&[&start[..], &["--dry-run"]].concat()).await;
    assert!(dry.out.starts_with("3 events to projections\n"), "{dry:?}");
    assert!(dry.out.contains("steps order:7/b stays"), "{dry:?}");
    let replayed = run(&[&start[..], &["--json"]].concat()).await;
    assert_eq!(
        lines(&replayed.out)[0]["status"],
        "completed",
        "{replayed:?}"
    );
    let replays = run(&["replay", "list", "--url", &url]).await;
    assert!(
        replays.out.contains("completed  3/3 events, 0 failed"),
        "{replays:?}"
    );
    let rebuilt = run(&["projection", "rebuild", "steps", "--json", "--url", &url]).await;
    assert_eq!(lines(&rebuilt.out)[0]["version"], 2, "{rebuilt:?}");
    let deleted = run(&["projection", "delete", "steps", "--url", &url]).await;
    assert!(deleted.err.contains("steps is deleted"), "{deleted:?}");
    let none = run(&["projection", "show", "order", "7/b", "--url", &url]).await;
    assert!(none.err.contains("Projection not found"), "{none:?}");

    testkit::eventually("a dead letter", testkit::LIMIT, || async {
        let counts = run(&["dead-letters", "counts", "--json", "--url", &url]).await;
        let counts = lines(&counts.out);
        counts
            .first()
            .is_some_and(|count| count["count"] == 1)
            .then_some(())
            .ok_or(counts)
    })
    .await;
    let list = run(&[
        "dead-letters",
        "list",
        "--reason",
        "version_conflict",
        "--json",
        "--url",
        &url,
    ])
    .await;
    let id = lines(&list.out)[0]["id"].to_string();
    let shown = run(&["dead-letters", "show", &id, "--url", &url]).await;
    assert!(
        shown.out.contains("is at version 3, the event expects 9"),
        "{shown:?}"
    );
    let dry = run(&[
        "dead-letters",
        "redrive",
        "--all",
        "--dry-run",
        "--url",
        &url,
    ])
    .await;
    assert_eq!(dry.out, "1 would be redriven\n", "{dry:?}");

    let rule = r#"{"kind":"surge","threshold":5}"#;
    let set = run(&["anomalies", "set", "busy", rule, "--url", &url]).await;
    assert!(set.out.starts_with("busy  surge  {"), "{set:?}");
    let rules = run(&["anomalies", "rules", "--url", &url]).await;
    assert!(rules.out.contains("silence  silence  default"), "{rules:?}");
    let tried = run(&["anomalies", "try", rule, "--days", "1", "--url", &url]).await;
    assert_eq!(tried.err, "0 alerts in 1 days\n", "{tried:?}");
    let none = run(&["anomalies", "--json", "--url", &url]).await;
    assert_eq!(lines(&none.out), [json!({"anomalies": []})], "{none:?}");
    let deleted = run(&["anomalies", "delete", "busy", "--url", &url]).await;
    assert_eq!(deleted.err, "busy is deleted\n", "{deleted:?}");

    let audit = run(&["audit", "--json", "--url", &url]).await;
    let audit = (&lines(&audit.out)[0]["differences"], audit.code);
    assert_eq!(audit, (&json!([]), Some(0)));
    let report = run(&["report", "--json", "--url", &url]).await;
    assert_eq!(lines(&report.out)[0]["typos"], json!([]), "{report:?}");

    let receipt = run(&["receipt", &ids[1], "--json", "--url", &url]).await;
    let receipt = &lines(&receipt.out)[0];
    assert_eq!(
        (&receipt["stream_version"], &receipt["door"]),
        (&json!(2), &json!("gateway"))
    );
    let none = run(&["receipt", &refused, "--url", &url]).await;
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(
        none.out.contains("Event not found") && none.out.contains("version_conflict"),
        "{none:?}"
    );

    // Mended by hand, it is stored.
    let mended = directory.path("mended.json");
    std::fs::write(&mended, event(json!(3)).to_string()).unwrap();
    let mended = mended.to_str().unwrap();
    let again = run(&[
        "dead-letters",
        "redrive",
        &id,
        "--payload",
        mended,
        "--url",
        &url,
    ])
    .await;
    assert_eq!(again.out, "1 of 1 are redriven\n", "{again:?}");
    total(&dev, 4).await;
    let left = run(&["dead-letters", "list", "--json", "--url", &url]).await;
    assert_eq!(left.out, "", "{left:?}");
}
