//! `tidegate send -`: lines from a pipe are sent as they arrive.

use std::process::Stdio;

use testkit::LIMIT;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use crate::command::{Directory, Ended, ended, interrupt, tidegate, total, write};

/// A sender whose input stays open.
fn start(arguments: &[&str]) -> (Child, ChildStdin) {
    let mut child = tidegate(arguments).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

async fn lines(stdin: &mut ChildStdin, from: usize, count: usize) {
    let text: String = (from..from + count)
        .map(|n| format!("{{\"event_type\":\"piped\",\"data\":{{\"n\":{n}}}}}\n"))
        .collect();
    stdin.write_all(text.as_bytes()).await.unwrap();
}

async fn end(child: Child) -> Ended {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    output.expect("it ends").unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_sent_as_they_come_and_ctrl_c_is_heard_between_them() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let url = dev.url("");
    for (count, concurrency) in [(0, "1"), (1, "4")] {
        let (child, mut stdin) = start(&["send", "--url", &url, "--concurrency", concurrency, "-"]);
        lines(&mut stdin, 0, 3).await;
        total(&dev, count * 506 + 3).await;
        // More than one request holds; the rest of it does not wait for others.
        lines(&mut stdin, 3, 503).await;
        total(&dev, count * 506 + 506).await;
        interrupt(&child);
        let ended = end(child).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.out.starts_with("506 events accepted"), "{ended:?}");
        assert!(ended.err.contains("interrupted"), "{ended:?}");
        assert!(ended.err.contains("up to line 506"), "{ended:?}");
        drop(stdin);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_advice_after_an_interruption_makes_no_doubles() {
    let directory = Directory::new();
    let away = ["send", "--url", "http://127.0.0.1:9", "--patience", "0"];
    let with = |more: &[&str]| [&away, more].concat().join("\n");
    let pipe = async |arguments: String| {
        let arguments: Vec<&str> = arguments.split('\n').collect();
        let (child, mut stdin) = start(&arguments);
        lines(&mut stdin, 0, 1).await;
        drop(stdin);
        end(child).await
    };
    let nameless = pipe(with(&["-"])).await;
    assert_eq!(nameless.code, Some(1), "{nameless:?}");
    assert!(nameless.err.contains("stored again"), "{nameless:?}");
    assert!(!nameless.err.contains("command again"), "{nameless:?}");
    let named = pipe(with(&["--name", "x", "-"])).await;
    assert!(named.err.contains("the same --name"), "{named:?}");

    // What never helps is not advised: that address has no such route.
    let dev = directory.dev().start().await;
    let url = dev.url("/nowhere");
    let file = directory.path("events.jsonl");
    write(&file, std::iter::once(r#"{"event_type":"a"}"#.to_owned()));
    let file = file.display().to_string();
    let wrong = ended(tidegate(&["send", "--url", &url, &file])).await;
    assert!(wrong.err.contains("404"), "{wrong:?}");
    assert!(!wrong.err.contains("again"), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_substitutions_of_the_shell_are_two_sources() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    for expected in [1, 2] {
        let mut command = Command::new("bash");
        command
            .args(["-c", r#""$0" send --url "$1" <(echo '{"event_type":"a"}')"#])
            .args([env!("CARGO_BIN_EXE_tidegate"), &dev.url("")]);
        let sent = ended(command).await;
        assert_eq!(sent.code, Some(0), "{sent:?}");
        total(&dev, expected).await;
    }
}
