//! Output into a closed pipe.

use serde_json::json;
use testkit::LIMIT;

use crate::command::{Directory, Ended, post, stored, tidegate, write};

/// No panic, and the exit status that a shell expects.
#[tokio::test]
async fn a_closed_pipe_ends_the_command_quietly() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let id = post(&dev, &json!({"event_type": "a"})).await.unwrap();
    stored(&dev, &id).await;
    let url = dev.url("");
    let file = directory.path("lines");
    write(&file, [r#"{"event_type":"a"}"#.to_owned()].into_iter());
    let file = file.display().to_string();
    for arguments in [
        &["config"][..],
        &["status", "--url", &url],
        &["status", "--json", "--url", &url],
        &["tail", "--json", "--url", &url, "-n", "1"],
        &["send", "--url", &url, "--no-checkpoint", &file],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = tidegate(arguments);
        let child = command.stdout(writer).spawn().unwrap();
        drop(command);
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let ended = Ended::from(output.expect("it ends").unwrap());
        assert!(!ended.err.contains("panicked"), "{arguments:?}: {ended:?}");
        let expected = if arguments == ["--help"] { 0 } else { 141 };
        assert_eq!(ended.code, Some(expected), "{arguments:?}: {ended:?}");
    }
}
