//! Helpers of the tests: data directories, running instances, and the command itself.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use testkit::{LIMIT, ServiceBuilder, TestService, eventually, eventually_eq};
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A directory of one test, deleted with the value once the PostgreSQL in it is gone.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        let name = format!("tidegate-test-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        // PostgreSQL's user passes through it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The cluster of a `dev` here.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.path("postgres")
    }

    /// Kills the PostgreSQL in it alone, and waits until another one has been started.
    pub(crate) async fn kill_server(&self) {
        let pid_file = self.cluster().join("postmaster.pid");
        let pid = || {
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            text.lines().next().unwrap_or_default().to_owned()
        };
        let before = pid();
        let killed = std::process::Command::new("kill")
            .args(["-s", "KILL", &before])
            .status();
        assert!(killed.unwrap().success());
        eventually("another server", LIMIT, || async {
            let now = pid();
            (!now.is_empty() && now != before).then_some(()).ok_or(now)
        })
        .await;
    }

    /// A `dev` here, and its settings.
    pub(crate) fn dev(&self) -> ServiceBuilder {
        TestService::builder("tidegate")
            .arg("dev")
            .env("TIDEGATE_DATA_DIR", self.0.display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let cluster = self.cluster();
        for _ in 0..500 {
            if !cluster.join("postmaster.pid").exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An answer's JSON.
pub(crate) async fn get(service: &TestService, path: &str) -> anyhow::Result<Value> {
    let text = reqwest::get(service.url(path)).await?.text().await?;
    Ok(serde_json::from_str(&text)?)
}

/// Sends one event; its id.
pub(crate) async fn post(service: &TestService, event: &Value) -> anyhow::Result<String> {
    let answer = reqwest::Client::new()
        .post(service.url("/api/v1/events/create"))
        .header("content-type", "application/json")
        .body(event.to_string())
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    anyhow::ensure!(status == 201, "{status}: {text}");
    let answer: Value = serde_json::from_str(&text)?;
    Ok(answer["event_id"].as_str().unwrap_or_default().to_owned())
}

/// Posts until it is taken; gives the event's id.
pub(crate) async fn taken(service: &TestService, event: &Value) -> String {
    eventually("taken", LIMIT, || async {
        post(service, event)
            .await
            .map_err(|error| error.to_string())
    })
    .await
}

/// Waits until an event can be read.
pub(crate) async fn stored(service: &TestService, id: &str) -> Value {
    eventually("the event", LIMIT, || async {
        let event = get(service, &format!("/api/v1/events/{id}"))
            .await
            .map_err(|error| error.to_string())?;
        if event["event_id"] == id {
            Ok(event)
        } else {
            Err(event.to_string())
        }
    })
    .await
}

/// Waits until so many events are stored and counted.
pub(crate) async fn total(service: &TestService, expected: i64) {
    eventually_eq("the count", Some(expected), || async {
        let counts = get(service, "/api/v1/events/stats").await?;
        Ok(counts["total_events"].as_i64())
    })
    .await;
}

/// The command with these arguments, undisturbed by the environment of the tests.
pub(crate) fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(arguments).env_clear().kill_on_drop(true);
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs it to its end.
pub(crate) async fn run(arguments: &[&str]) -> Ended {
    ended(tidegate(arguments)).await
}

/// Runs it to its end.
pub(crate) async fn ended(mut command: Command) -> Ended {
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    output.expect("it ends").unwrap().into()
}

/// Ctrl-C, as the terminal sends it.
pub(crate) fn interrupt(child: &Child) {
    let pid = child.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", "INT", &pid])
        .status();
    assert!(sent.unwrap().success());
}

/// A command that goes on, read line by line.
pub(crate) struct Running {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = tidegate(arguments);
        command.stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            _child: child,
            lines,
        }
    }

    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
        line.expect("a line").unwrap().expect("not the end")
    }
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// Writes a file of lines.
pub(crate) fn write(path: &Path, lines: impl Iterator<Item = String>) {
    let text: String = lines.map(|line| line + "\n").collect();
    std::fs::write(path, text).unwrap();
}

/// A web server that is not Tidegate: it answers every request with a page of HTML.
pub(crate) struct OtherServer(std::net::SocketAddr);

impl OtherServer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let page = "<!doctype html>\n<html>\n<p>Welcome\n</html>\n";
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n{page}",
                    page.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self(address)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0)
    }
}
