//! `tidegate dev` at the terminal: signals and output.

use std::net::TcpStream;
use std::path::Path;

use serde_json::json;
use testkit::{LIMIT, SseStream, eventually};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::command::{
    Directory, Ended, free_port, interrupt, post, stored, taken, tidegate, total,
};

/// A `dev` in a process group of its own, as a shell starts it.
fn dev(directory: &Directory, port: &str) -> Command {
    let path = directory.0.display().to_string();
    let mut command = tidegate(&["dev", "--port", port, "--data-dir", &path]);
    command.process_group(0);
    command
}

/// Ctrl-C reaches the whole group.
fn interrupt_group(child: &Child) {
    let group = format!("-{}", child.id().expect("it runs"));
    let sent = std::process::Command::new("kill")
        .args(["-s", "INT", "--", &group])
        .status();
    assert!(sent.unwrap().success());
}

async fn end(child: Child) -> Ended {
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    output.expect("it ends").unwrap().into()
}

async fn appears(path: &Path) {
    eventually("the file", LIMIT, || async {
        path.exists().then_some(()).ok_or("not yet")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_at_any_moment_of_the_first_start_is_no_error() {
    for moment in [
        "postgres.new",
        "postgres.new/PG_VERSION",
        "postgres/postmaster.pid",
    ] {
        let directory = Directory::new();
        let child = dev(&directory, "0").spawn().unwrap();
        appears(&directory.path(moment)).await;
        interrupt_group(&child);
        let ended = end(child).await;
        // With the lock file there, the server may be up before the signal arrives: an ordinary stop.
        let is_up = moment == "postgres/postmaster.pid" && ended.code == Some(0);
        assert!(is_up || ended.code == Some(130), "{moment}: {ended:?}");
        assert_eq!(ended.out, "stopped\n", "{moment}");
        assert_eq!(ended.err, "", "{moment}");
        assert!(!directory.path("password.initdb").exists(), "{moment}");
        // And nothing is in the way of the next.
        let mut next = directory.dev().start().await;
        let id = post(&next, &json!({"event_type": "a"})).await.unwrap();
        stored(&next, &id).await;
        assert!(next.terminate().await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_does_not_wait_for_slow_clients() {
    let directory = Directory::new();
    let port = free_port();
    let mut command = dev(&directory, &port);
    let mut child = command
        // Longer than anybody waits, and than this test.
        .env("SHUTDOWN_GRACE_SECONDS", "3600")
        .spawn()
        .unwrap();
    appears(&directory.path("environment")).await;
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let welcome = tokio::time::timeout(LIMIT, out.next_line()).await;
    assert!(welcome.unwrap().unwrap().unwrap().contains("ready"));
    let mut slow = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    std::io::Write::write_all(
        &mut slow,
        b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
    )
    .unwrap();
    // It is heard once others are: the requests of one port are taken in their order.
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/health")).await;
    assert_eq!(answer.unwrap().status(), 200);

    interrupt(&child);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = tokio::time::timeout(LIMIT, said.next_line()).await;
    let line = line.expect("a word").unwrap().unwrap_or_default();
    assert!(line.contains("Ctrl-C again"), "{line}");
    // The handler of the second signal may be installed a moment later.
    let ended = async {
        loop {
            interrupt(&child);
            let ended = tokio::time::timeout(LIMIT / 60, child.wait()).await;
            if let Ok(status) = ended {
                break status.unwrap();
            }
        }
    };
    let status = tokio::time::timeout(LIMIT, ended).await;
    assert!(status.expect("it ends").success());
    drop(slow);
    assert!(!directory.cluster().join("postmaster.pid").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_no_warnings_in_normal_operation() {
    let directory = Directory::new();
    let mut dev = directory.dev().env("LOG_LEVEL", "warning").start().await;
    let url = dev.url("/api/v1/sse/users/u-1");
    for n in 1..=2 {
        let mut listener = SseStream::open(&url, None).await.unwrap();
        let begun = tokio::time::timeout(LIMIT, listener.wait_cursor()).await;
        begun.expect("it begins").unwrap();
        let event = json!({"event_type": "a", "user_id": "u-1"});
        post(&dev, &event).await.unwrap();
        total(&dev, n).await;
    }
    assert!(dev.terminate().await.success());
    let log = dev.log();
    assert!(log.contains("Tidegate is ready"), "{log}");
    for word in ["ERROR", "WARN", "TakenOver"] {
        assert!(!log.contains(word), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_outlives_its_server_delays_the_restart() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let first = post(&dev, &json!({"event_type": "a"})).await.unwrap();
    stored(&dev, &first).await;
    appears(&directory.path("environment")).await;
    let text = std::fs::read_to_string(directory.path("environment")).unwrap();
    let url = text
        .lines()
        .find_map(|line| line.strip_prefix("DATABASE_URL="));
    let (client, connection) = tokio_postgres::connect(url.unwrap(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let backend: i32 = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    // It waits for nothing, so it does not notice that its server was killed until it ends.
    let busy = tokio::spawn(async move {
        let _ = client
            .batch_execute(
                "do $$ begin while clock_timestamp() < now() + interval '5 seconds' loop \
                 end loop; end $$",
            )
            .await;
    });
    let runs = format!("/proc/{backend}");
    directory.kill_server().await;
    let second = taken(&dev, &json!({"event_type": "b"})).await;
    stored(&dev, &second).await;
    stored(&dev, &first).await;
    busy.await.unwrap();
    assert!(!Path::new(&runs).exists(), "two servers on one cluster");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_address_is_the_console() {
    let directory = Directory::new();
    let dev = directory.dev().start().await;
    let answer = reqwest::get(dev.url("/")).await.unwrap();
    assert_eq!(answer.url().path(), "/console/");
    let kind = &answer.headers()["content-type"];
    assert_eq!(kind, "text/html; charset=utf-8");
    let policy = answer.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
}
