//! `tidegate dev` on directories of its own.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use testkit::{LIMIT, SseStream, TestService, eventually, eventually_eq};

use crate::command::{Directory, get, post, stored, taken, total};

/// The assignments in `DIR/environment`.
fn environment(directory: &Directory) -> HashMap<String, String> {
    let path = directory.path("environment");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

async fn written(directory: &Directory) -> HashMap<String, String> {
    eventually("the environment", LIMIT, || async {
        let there = directory.path("environment").exists();
        there.then_some(()).ok_or("not yet")
    })
    .await;
    environment(directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_directory_answers_and_a_restart_keeps_everything() {
    let directory = Directory::new();
    let mut dev = directory.dev().start().await;
    let mut listener = SseStream::open(&dev.url("/api/v1/sse/users/u-1"), None)
        .await
        .unwrap();
    let event = json!({"event_type": "user.login", "user_id": "u-1", "data": {"n": 1}});
    let id = post(&dev, &event).await.unwrap();
    assert_eq!(stored(&dev, &id).await["data"]["n"], 1);
    let live = eventually_live(&mut listener).await;
    assert_eq!(live["event_id"], id.as_str());
    drop(listener);

    let before = written(&directory).await;
    for name in ["BASE_URL", "INGEST_URL", "PROCESSOR_URL", "QUERY_URL"] {
        assert_eq!(before[name], dev.url(""), "{name}");
    }
    let (client, connection) =
        tokio_postgres::connect(&before["DATABASE_URL"], tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    let row = client
        .query_one("select count(*), current_setting('fsync') from events", &[])
        .await
        .unwrap();
    assert_eq!((row.get(0), row.get(1)), (1_i64, "on"));
    drop(client);

    let openapi = get(&dev, "/openapi.json").await.unwrap();
    assert!(openapi["paths"]["/api/v1/events/batch"].is_object());
    assert!(openapi["paths"]["/api/v1/events/query"].is_object());
    let metrics = reqwest::get(dev.url("/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for service in ["ingest", "processor", "query"] {
        let label = format!("service=\"{service}\"");
        assert!(metrics.contains(&label), "{label}");
    }

    let status = dev.terminate().await;
    assert!(status.success(), "{status}");
    assert!(!directory.path("environment").exists());
    assert!(!directory.cluster().join("postmaster.pid").exists());

    dev.restart().await;
    assert_eq!(stored(&dev, &id).await["data"]["n"], 1);
    total(&dev, 1).await;
    let after = written(&directory).await;
    assert_eq!(before["DATABASE_URL"], after["DATABASE_URL"]);
}

async fn eventually_live(listener: &mut SseStream) -> Value {
    loop {
        let event = tokio::time::timeout(LIMIT, listener.next()).await;
        let event = event.expect("a message").unwrap().expect("not the end");
        if let Ok(data) = serde_json::from_str::<Value>(&event.data) {
            return data;
        }
    }
}

/// Waits until everything in the log is stored.
async fn nothing_waits(directory: &Directory) {
    let url = written(directory).await["DATABASE_URL"].clone();
    eventually_eq("what waits in the log", 0_i64, || async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let sql = "select count(*) from event_log";
        Ok(client.query_one(sql, &[]).await?.get(0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_comes_back_with_everything_it_answered() {
    let directory = Directory::new();
    let mut dev = directory.dev().start().await;
    let mut acknowledged = 0;
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (stop, url) = (stop.clone(), dev.url("/api/v1/events"));
                tokio::spawn(async move {
                    let client = reqwest::Client::new();
                    let (mut taken, mut unanswered) = (Vec::new(), 0);
                    while !stop.load(Ordering::Relaxed) {
                        let id = uuid::Uuid::new_v4();
                        let event = format!(r#"{{"event_type":"a","event_id":"{id}"}}"#);
                        let answer = client.post(&url).body(event).send().await;
                        match answer {
                            Ok(answer) if answer.status() == 202 => taken.push(id.to_string()),
                            Ok(_) => unanswered += 1,
                            Err(_) => {
                                unanswered += 1;
                                break;
                            }
                        }
                    }
                    (taken, unanswered)
                })
            })
            .collect();
        let before = acknowledged;
        eventually("some are stored", LIMIT, || async {
            let counts = get(&dev, "/api/v1/events/stats").await.unwrap_or_default();
            let count = counts["total_events"].as_i64().unwrap_or_default();
            (count > before + 50).then_some(()).ok_or(count)
        })
        .await;
        dev.kill();
        stop.store(true, Ordering::Relaxed);
        let (mut ids, mut perhaps) = (Vec::new(), 0);
        for client in clients {
            let (taken, unanswered) = client.await.unwrap();
            ids.extend(taken);
            perhaps += unanswered;
        }
        dev.restart().await;
        for id in &ids {
            stored(&dev, id).await;
        }
        // What was on its way may have been stored without an answer, and is by now.
        nothing_waits(&directory).await;
        let counts = get(&dev, "/api/v1/events/stats").await.unwrap();
        let count = counts["total_events"].as_i64().unwrap();
        let least = acknowledged + i64::try_from(ids.len()).unwrap();
        assert!(
            (least..=least + perhaps).contains(&count),
            "round {round}: {least} answered, {count} counted"
        );
        acknowledged = count;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_alone_is_started_again() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let first = post(&dev, &json!({"event_type": "a"})).await.unwrap();
    stored(&dev, &first).await;
    directory.kill_server().await;
    let second = taken(&dev, &json!({"event_type": "b"})).await;
    stored(&dev, &second).await;
    stored(&dev, &first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ephemeral_leaves_nothing() {
    let temporary = Directory::new();
    let mut dev = TestService::builder("tidegate")
        .arg("dev")
        .arg("--ephemeral")
        .env("TMPDIR", temporary.0.display())
        .start()
        .await;
    let id = post(&dev, &json!({"event_type": "a"})).await.unwrap();
    stored(&dev, &id).await;
    let entries = || std::fs::read_dir(&temporary.0).unwrap().count();
    assert_eq!(entries(), 1);
    assert!(dev.terminate().await.success());
    assert_eq!(entries(), 0);

    // Not even a killed one, once the next has started.
    dev.restart().await;
    dev.kill();
    let left = std::fs::read_dir(&temporary.0).unwrap().next();
    let left = left.unwrap().unwrap().path();
    eventually_eq("the server is gone", false, || async {
        Ok(left.join("postgres/postmaster.pid").exists())
    })
    .await;
    dev.restart().await;
    assert!(!left.exists());
    assert!(dev.terminate().await.success());
    assert_eq!(entries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unprivileged_user_runs_it_too() {
    let home = Directory::new();
    let nobody = 65_534;
    // Root runs it as another user, who may not be able to enter the target directory.
    let binary = home.path("tidegate");
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), &binary).unwrap();
    let mut command = std::process::Command::new(&binary);
    if is_root() {
        std::os::unix::fs::chown(&home.0, Some(nobody), Some(nobody)).unwrap();
        command.uid(nobody).gid(nobody);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let child = command
        .args(["dev", "--port", "0"])
        .current_dir(&home.0)
        .env_clear()
        .env("PATH", path)
        .env("HOME", &home.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let guard = Killed(child);
    let data = home.path(".local/share/tidegate/dev");
    let base = eventually("the environment", LIMIT, || async {
        let text = std::fs::read_to_string(data.join("environment"));
        let text = text.map_err(|error| error.to_string())?;
        let url = text.lines().find_map(|line| line.strip_prefix("BASE_URL="));
        url.map(str::to_owned).ok_or(text.clone())
    })
    .await;
    eventually_eq("ready", 200, || async {
        Ok(reqwest::get(format!("{base}/ready"))
            .await?
            .status()
            .as_u16())
    })
    .await;
    drop(guard);
    eventually_eq("the server is gone", false, || async {
        Ok(data.join("postgres/postmaster.pid").exists())
    })
    .await;
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0)
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
