//! `tidegate import` against a running instance.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use testkit::{LIMIT, Proxy, eventually_eq};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::command::{Directory, get, run, tidegate, total, write};

fn packed(path: &Path, lines: impl Iterator<Item = String>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut packed = GzEncoder::new(file, Compression::fast());
    for line in lines {
        writeln!(packed, "{line}").unwrap();
    }
    packed.finish().unwrap();
}

/// A call as Segment's archive has it, of a client whose clock was an hour slow.
fn archived(n: usize) -> String {
    let minute = n / 60 % 60;
    let call = json!({
        "type": "track", "event": format!("Archived {}", n % 3), "messageId": format!("m-{n}"),
        "userId": format!("u-{}", n % 100), "properties": {"n": n}, "context": {}, "writeKey": "wk",
        "timestamp": format!("2024-05-01T12:{minute:02}:{:02}Z", n % 60),
        "originalTimestamp": format!("2024-05-01T11:{minute:02}:{:02}Z", n % 60),
        "sentAt": "2024-05-01T11:59:59Z", "receivedAt": "2024-05-01T12:59:59Z",
    });
    call.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_stored_once_though_its_import_is_killed() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let proxy = Proxy::start(&[dev.port()]).await.unwrap();
    let (url, archive) = (proxy.url(""), directory.path("segment-logs"));
    let each = 1_500;
    for file in 0..4 {
        // Segment names them so.
        let path = archive.join(format!("abc/171452160000{file}/171456474{file}.gz"));
        packed(&path, (file * each..(file + 1) * each).map(archived));
    }
    std::fs::write(archive.join("README"), "no events").unwrap();
    let archive = archive.display().to_string();
    let arguments = ["import", "--url", &url, "--batch", "50", &archive];
    let checkpoint = directory.path("segment-logs.import");

    // Killed while a request is under way, after some were answered.
    proxy.close_after(400_000);
    let mut first = tidegate(&arguments).spawn().unwrap();
    let mut said = BufReader::new(first.stderr.take().unwrap()).lines();
    let waiting = async {
        loop {
            let line = said.next_line().await.unwrap().expect("not the end");
            if line.contains("waiting:") {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, waiting)
        .await
        .expect("it is cut off");
    first.kill().await.unwrap();

    // Ended by an outage beyond its patience.
    proxy.open();
    proxy.close_after(800_000);
    let failed = run(&[&arguments[..], &["--patience", "0"]].concat()).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(
        failed.err.contains("run the same command again"),
        "{failed:?}"
    );

    proxy.open();
    let done = run(&arguments).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("going on after line"), "{done:?}");
    assert!(!checkpoint.exists());
    total(&dev, 4 * each as i64).await;
    // From the beginning, under another checkpoint.
    let other = directory.path("other").display().to_string();
    let again = run(&[&arguments[..], &["--checkpoint", &other]].concat()).await;
    assert!(again.out.starts_with("6000 events accepted"), "{again:?}");
    total(&dev, 4 * each as i64).await;

    // Ids and times are those of the archive, which had set the clock right.
    let path = "/api/v1/events/query?user_id=u-7&limit=1000";
    let (client, all) = (
        reqwest::Client::new(),
        json!({"user_id": "u-7", "limit": 1000}),
    );
    let answer = client.post(dev.url(path)).json(&all).send().await.unwrap();
    let page: Value = answer.json().await.unwrap();
    let events = page["events"].as_array().unwrap();
    assert_eq!(events.len(), 60);
    for event in events {
        let n = event["data"]["properties"]["n"].as_u64().unwrap();
        let (minute, second) = (n / 60 % 60, n % 60);
        let time = format!("2024-05-01T12:{minute:02}:{second:02}Z");
        assert_eq!(event["timestamp"], time, "{event}");
        assert_eq!(event["client_event_id"], format!("m-{n}"), "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_become_events_and_what_is_none_is_kept() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let (url, file) = (dev.url(""), directory.path("orders.csv"));
    let mut rows = vec!["\u{feff}id,created_at,customer,total,note".to_owned()];
    rows.extend((1..=600).map(|n| {
        let id = uuid::Uuid::from_u128(0x4000_8000_0000_0000_0000 + n);
        format!(
            "{id},2024-05-01 12:00:00+00,c-{},{n}.50,\"a \"\"note\"\"\nof two lines\"",
            n % 7
        )
    }));
    rows.push("only,three,fields".to_owned());
    rows.push("x,yesterday,c-1,1,".to_owned());
    rows.push(",2024-05-01 12:00:01+00,c-9,7,no id".to_owned());
    write(&file, rows.into_iter());
    let path = file.display().to_string();
    let arguments = [
        "import",
        "--url",
        &url,
        "--event-type",
        "order.placed",
        "--map",
        "id=event_id",
        "--map",
        "created_at=timestamp",
        "--map",
        "customer=user_id",
        &path,
    ];
    let rejects = directory.path("orders.csv.rejects");
    let kept = || -> Vec<Value> {
        let text = std::fs::read_to_string(&rejects).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };

    // What a dry run says is what the gateway says, and nothing is sent.
    let dry = run(&[&arguments[..], &["--dry-run"]].concat()).await;
    assert_eq!(dry.code, Some(1), "{dry:?}");
    for words in [
        "601 events would be sent, 1 refused, 1 bad lines",
        "601  order.placed",
        "from 2024-05-01T12:00:00Z to 2024-05-01T12:00:01Z",
        "orders.csv.rejects",
    ] {
        assert!(format!("{dry:?}").contains(words), "{words}: {dry:?}");
    }
    let said = kept();
    let done = run(&arguments).await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.out.starts_with("601 events accepted"), "{done:?}");
    assert!(done.out.contains(", 1 refused, 1 bad lines"), "{done:?}");
    let rejected = kept();
    for kept in [&said, &rejected] {
        let by_line = |line: u64| kept.iter().find(|one| one["line"] == line).unwrap();
        let fields = by_line(1202);
        assert_eq!(fields["file"], path);
        assert_eq!(fields["text"], "only,three,fields");
        assert_eq!(fields["error"], "3 fields, but 5 columns");
        let time = by_line(1203)["error"].as_str().unwrap();
        assert!(time.starts_with("timestamp: "), "{time}");
        assert_eq!(kept.len(), 2, "{kept:?}");
    }
    total(&dev, 601).await;
    let again = run(&arguments).await;
    assert!(again.out.starts_with("601 events accepted"), "{again:?}");
    total(&dev, 601).await;

    let id = uuid::Uuid::from_u128(0x4000_8000_0000_0000_0000 + 5);
    let stored = async || {
        let event = get(&dev, &format!("/api/v1/events/{id}")).await?;
        let member = |name: &str| event[name].clone();
        anyhow::Ok(["event_type", "user_id", "timestamp", "data"].map(member))
    };
    let expected = [
        json!("order.placed"),
        json!("c-5"),
        json!("2024-05-01T12:00:00Z"),
        json!({"total": 5.50, "note": "a \"note\"\nof two lines"}),
    ];
    eventually_eq("the row", expected, stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_told() {
    let directory = Directory::new();
    let file = directory.path("a.csv");
    write(&file, ["x,y".to_owned(), "1,2".to_owned()].into_iter());
    let path = file.display().to_string();
    std::fs::create_dir(directory.path("empty")).unwrap();
    let empty = directory.path("empty").display().to_string();
    let broken = directory.path("broken.jsonl.gz");
    std::fs::write(&broken, [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    let broken = broken.display().to_string();
    for (arguments, says) in [
        (&["/nowhere"][..], "/nowhere cannot be read"),
        (&[&empty], "no files to import"),
        (&[&path], "no column is event_type"),
        (&["--map", "z=event_type", &path], "no column \"z\""),
        (&["--map", "x=when", &path], "\"when\" is none of event_id"),
        (&[&broken, "--dry-run"], "reading broke off"),
    ] {
        let url = ["import", "--url", "http://127.0.0.1:9", "--patience", "0"];
        let ended = run(&[&url[..], arguments].concat()).await;
        assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(says), "{arguments:?}: {ended:?}");
    }
}
