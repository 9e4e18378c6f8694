//! `tidegate dev` without PostgreSQL, and without space. Both need file systems of their own; where
//! none can be mounted, the tests say that they were skipped.

use std::process::Stdio;

use serde_json::json;
use testkit::{LIMIT, eventually};
use tokio::process::Command;

use crate::command::{Directory, ended, free_port, interrupt};

/// The exit status of a script that cannot mount its file system.
const SKIP: i32 = 77;

/// A script in a mount namespace of its own; `$0` is the command.
fn in_namespace(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "sh",
            "-c",
            script,
            env!("CARGO_BIN_EXE_tidegate"),
        ])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/var/lib")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Whether a file system can be mounted; prints the reason if not.
async fn may_mount(test: &str) -> bool {
    let mut probe = in_namespace("mount -t tmpfs none /mnt", &[]);
    let reason = match probe.stdout(Stdio::null()).output().await {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("skipped: {test}: no file system can be mounted here ({reason})");
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_and_without_a_download_it_says_what_to_install() {
    const MASKED: &str = r#"
        for directory in /usr/lib/postgresql /usr/local/pgsql /opt/homebrew /var/lib; do
            [ ! -d "$directory" ] || mount -t tmpfs none "$directory" || exit 77
        done
        ! command -v postgres >/dev/null || exit 77
        # Nothing is to be fetched either.
        export HTTPS_PROXY=http://127.0.0.1:9
        exec "$0" dev --port 0 --data-dir "$1""#;
    if !may_mount("no PostgreSQL").await {
        return;
    }
    let directory = Directory::new();
    let path = directory.0.display().to_string();
    let refused = ended(in_namespace(MASKED, &[&path])).await;
    if refused.code == Some(SKIP) {
        eprintln!("skipped: no PostgreSQL: one is where it cannot be hidden ({refused:?})");
        return;
    }
    assert_eq!(refused.code, Some(1), "{refused:?}");
    // That it fetches, and why it ends.
    assert_eq!(refused.err.lines().count(), 2, "{refused:?}");
    let error = refused.err.lines().last().unwrap_or_default();
    assert!(error.starts_with("tidegate: "), "{refused:?}");
    for words in [
        "none could be fetched",
        "apt-get install postgresql",
        "TIDEGATE_PG_BIN",
    ] {
        assert!(error.contains(words), "no {words:?} in {refused:?}");
    }
    assert!(!directory.cluster().exists());

    // Data that is there needs its own version, which is another sentence.
    std::fs::create_dir(directory.cluster()).unwrap();
    let version = directory.cluster().join("PG_VERSION");
    for (made_by, words) in [
        (
            "18",
            "made by PostgreSQL 18, but this machine has no PostgreSQL and 18 could not be",
        ),
        (
            "17",
            "made by PostgreSQL 17, but this machine has no PostgreSQL: install",
        ),
        ("14", "made by PostgreSQL 14, and 15 or newer is needed"),
    ] {
        std::fs::write(&version, made_by).unwrap();
        let refused = ended(in_namespace(MASKED, &[&path])).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains(words), "no {words:?} in {refused:?}");
        assert_eq!(std::fs::read_to_string(&version).unwrap(), made_by);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_damages_nothing() {
    const FULL: &str = r#"
        mount -t tmpfs -o size=16m,mode=755 none "$1" || exit 77
        for time in first second; do
            "$0" dev --port 0 --data-dir "$1/data" >&2
            echo "$time: $?" >&2
        done
        mount -o remount,size=1g "$1" || exit 77
        exec "$0" dev --port "$2" --data-dir "$1/data""#;
    if !may_mount("a full disk").await {
        return;
    }
    let directory = Directory::new();
    let (path, port) = (directory.0.display().to_string(), free_port());
    let child = in_namespace(FULL, &[&path, &port])
        .env("EVENT_SERVICE_HOST", "127.0.0.1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let base = format!("http://127.0.0.1:{port}");
    eventually("ready, once there is space", LIMIT, || async {
        let answer = reqwest::get(format!("{base}/ready")).await;
        let status = answer.map_err(|error| error.to_string())?.status();
        (status == 200).then_some(()).ok_or(status.to_string())
    })
    .await;
    let answer = reqwest::Client::new()
        .post(format!("{base}/api/v1/events/create"))
        .header("content-type", "application/json")
        .body(json!({"event_type": "a"}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    interrupt(&child);
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let ended = crate::command::Ended::from(output.expect("it ends").unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let full = format!("the disk of {path}/data is full");
    assert_eq!(ended.err.matches(&full).count(), 2, "{ended:?}");
    for told in ["first: 1", "second: 1"] {
        assert!(ended.err.contains(told), "{ended:?}");
    }
}
