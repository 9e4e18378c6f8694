//! `tidegate send` against a running instance.

use std::collections::HashSet;
use std::process::Stdio;

use testkit::{LIMIT, Proxy, TestService};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::command::{Directory, Ended, ended, run, tidegate, total, write};

fn event(n: usize) -> String {
    format!(
        r#"{{"event_type":"sent.{}","user_id":"u-{n}","data":{{"n":{n}}}}}"#,
        n % 3
    )
}

/// A way to the service that ends after so many bytes: sending is then well under way.
async fn cut_short(service: &TestService) -> Proxy {
    let proxy = Proxy::start(&[service.port()]).await.unwrap();
    proxy.close_after(200_000);
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_sent_once_however_often_it_is_sent() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let (url, file) = (dev.url(""), directory.path("events.jsonl"));
    let bad = [
        (3, "nonsense".to_owned(), "no JSON"),
        (10, "[1]".to_owned(), "no object"),
        (20, r#"{"event_type":"#.to_owned(), "at column"),
        (30, r#"{"event_type":7,"data":{}}"#.to_owned(), "event_type"),
        (40, r#"{"data":{}}"#.to_owned(), "event_type"),
        (
            50,
            format!(
                r#"{{"event_type":"big","data":{{"x":"{}"}}}}"#,
                "x".repeat(300_000)
            ),
            "bytes",
        ),
    ];
    // None has an id where its form reads one.
    let forms = [
        r#"{"event_type":"sent.a","id":"17"}"#,
        r#"{"event_type":"sent.a","aggregate_id":"1","payload":{},"id":"17"}"#,
        r#"{"type":"sent.a","messageId":"17"}"#,
        r#"{"specversion":"1.0","type":"sent.a","source":"s","event_id":null}"#,
    ];
    write(
        &file,
        (1..=1_200_usize).map(|line| {
            let found = bad.iter().find(|(at, ..)| *at == line);
            let form = line.checked_sub(60).and_then(|at| forms.get(at));
            match (found, form) {
                (Some((_, text, _)), _) => text.clone(),
                (_, Some(text)) => (*text).to_owned(),
                _ => event(line),
            }
        }),
    );
    let file = file.display().to_string();
    let arguments = ["send", "--url", &url, &file];
    let sent = run(&arguments).await;
    assert_eq!(sent.code, Some(1), "{sent:?}");
    for (line, _, says) in &bad {
        let told = sent
            .err
            .lines()
            .find(|told| told.starts_with(&format!("line {line}: ")));
        assert!(
            told.is_some_and(|told| told.contains(says)),
            "{line} {says}: {sent:?}"
        );
    }
    assert!(sent.out.starts_with("1194 events accepted"), "{sent:?}");
    assert!(sent.out.contains("3 refused, 3 bad lines"), "{sent:?}");
    total(&dev, 1_194).await;

    // Again, in other batches, several at a time, from another directory's point of view.
    let mut again = tidegate(&[
        "send",
        "--url",
        &url,
        "--batch",
        "77",
        "--concurrency",
        "4",
        "events.jsonl",
    ]);
    again.current_dir(&directory.0);
    let again = ended(again).await;
    assert!(again.out.starts_with("1194 events accepted"), "{again:?}");
    total(&dev, 1_194).await;
    // One more line is one more event.
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&event(1));
    std::fs::write(&file, text).unwrap();
    run(&arguments).await;
    total(&dev, 1_195).await;
    assert!(!directory.path("events.jsonl.checkpoint").exists());
}

async fn pipe(arguments: &[&str], text: &str) -> Ended {
    let mut command = tidegate(arguments);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).await.unwrap();
    drop(stdin);
    child.wait_with_output().await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_new_each_time_unless_it_is_named() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let url = dev.url("");
    let text = format!("\u{feff}{}\r\n\n{}", event(1), event(2));
    for (extra, expected) in [
        (&[][..], 2),
        (&[][..], 4),
        (&["--name", "x"][..], 6),
        (&["--name", "x"][..], 6),
    ] {
        let arguments = [&["send", "--url", &url, "-"][..], extra].concat();
        let sent = pipe(&arguments, &text).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        assert!(sent.out.starts_with("2 events accepted"), "{sent:?}");
        total(&dev, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_restart_and_goes_on_after_an_interruption() {
    let directory = Directory::new();
    let mut dev = directory.dev().start().await;
    let proxy = cut_short(&dev).await;
    let (url, path) = (proxy.url(""), directory.path("events.jsonl"));
    let lines = 30_000;
    write(&path, (1..=lines).map(event));
    let file = path.display().to_string();
    let checkpoint = directory.path("events.jsonl.checkpoint");

    // No service and no patience: it fails, and says how to go on.
    let failed = run(&[
        "send",
        "--url",
        &url,
        "--batch",
        "50",
        "--patience",
        "0",
        &file,
    ])
    .await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(
        failed.err.contains("run the same command again"),
        "{failed:?}"
    );
    assert!(checkpoint.exists());

    // A file of the same name and length that is another is not taken for it.
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace("sent", "SENT")).unwrap();
    let other = run(&[
        "send",
        "--url",
        "http://127.0.0.1:9",
        "--patience",
        "0",
        &file,
    ])
    .await;
    assert!(other.err.contains("another file or address"), "{other:?}");
    std::fs::write(&path, kept).unwrap();

    // With patience it waits for the service, and sends all once it is there.
    dev.kill();
    let url = dev.url("");
    let named = checkpoint.display().to_string();
    std::fs::remove_file(&checkpoint).unwrap();
    let mut sending = tidegate(&["send", "--url", &url, "--checkpoint", &named, &file])
        .spawn()
        .unwrap();
    let mut said = BufReader::new(sending.stderr.take().unwrap()).lines();
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
        .expect("it meets nobody");
    dev.restart().await;
    let done = tokio::time::timeout(2 * LIMIT, sending.wait_with_output()).await;
    let done = Ended::from(done.expect("it ends").unwrap());
    assert_eq!(done.code, Some(0), "{done:?}");
    total(&dev, i64::try_from(lines).unwrap()).await;
    assert!(!checkpoint.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_used() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let proxy = cut_short(&dev).await;
    let (url, path) = (proxy.url(""), directory.path("events.jsonl"));
    write(&path, (1..=20_000).map(event));
    let file = path.display().to_string();
    let arguments = [
        "send",
        "--url",
        &url,
        "--batch",
        "50",
        "--patience",
        "0",
        &file,
    ];
    assert_eq!(run(&arguments).await.code, Some(1));
    proxy.open();
    let done = run(&arguments).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("going on after line"), "{done:?}");
    let taken: u64 = done.out.split(' ').next().unwrap().parse().unwrap();
    assert!(taken < 20_000, "{done:?}");
    total(&dev, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_told() {
    let directory = Directory::new();
    let path = directory.path("events.jsonl");
    write(&path, (1..=3).map(event));
    let file = path.display().to_string();
    let missing = run(&["send", "/nowhere.jsonl"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.err.contains("/nowhere.jsonl cannot be read"),
        "{missing:?}"
    );
    let folder = directory.0.display().to_string();
    assert!(run(&["send", &folder]).await.err.contains("is a directory"));
    let wrong = run(&["send", "--url", "ftp://x", &file]).await;
    assert!(wrong.err.contains("--url"), "{wrong:?}");
    let away = run(&[
        "send",
        "--url",
        "http://127.0.0.1:9",
        "--patience",
        "0",
        &file,
    ])
    .await;
    assert_eq!(away.code, Some(1));
    assert!(away.err.contains("Connection refused"), "{away:?}");
    std::fs::write(directory.path("events.jsonl.checkpoint"), "{").unwrap();
    let damaged = run(&["send", "--url", "http://127.0.0.1:9", &file]).await;
    assert!(damaged.err.contains("no checkpoint"), "{damaged:?}");
    let many: Vec<String> = (0..100).map(|n| format!("bad {n}")).collect();
    write(&path, many.into_iter());
    let bad = run(&["send", "--no-checkpoint", &file]).await;
    assert!(bad.out.contains("100 bad lines"), "{bad:?}");
    let shown: HashSet<&str> = bad.err.lines().collect();
    assert_eq!(shown.len(), 21, "{bad:?}");
}
