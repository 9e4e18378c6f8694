//! PostgreSQL, Kafka and Redis, started by `deploy/local/parts`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::names::{target, unique, workspace};
use crate::port::Port;
use crate::process::signal;

/// One of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// PostgreSQL.
    Postgres,
    /// Kafka, one broker.
    Kafka,
    /// Redis.
    Redis,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::Kafka, Self::Redis];

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Redis => "redis",
        }
    }
}

/// The addresses of the parts of a test.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Connection URL of the database `tidegate`.
    pub database_url: String,
    /// `host:port` of Kafka.
    pub kafka_brokers: String,
    /// Connection URL of Redis.
    pub redis_url: String,
    /// Present for private parts, which alone can be stopped and killed.
    own: Option<std::sync::Arc<OwnSet>>,
    /// Where the data of shared parts are, if `TEST_PARTS_DIRECTORY` names it.
    shared_directory: Option<PathBuf>,
}

static SHARED: OnceCell<Parts> = OnceCell::const_new();

impl Parts {
    /// The parts that all tests share: those named by `TEST_DATABASE_URL`, `TEST_KAFKA_BROKERS` and
    /// `TEST_REDIS_URL`; without them a set below the target directory, which is started if it does
    /// not run, and left running. A test uses its own databases and topics, and stops no part.
    pub async fn shared() -> Self {
        SHARED.get_or_init(shared).await.clone()
    }

    /// Private parts, stopped and deleted when the last clone is dropped.
    pub async fn private() -> Self {
        Self::private_of(&Part::ALL).await
    }

    /// Some of the parts, private; the addresses of the others are empty.
    pub async fn private_of(parts: &[Part]) -> Self {
        sweep().await;
        let name = format!("private-{}-{}", std::process::id(), unique());
        let set = OwnSet {
            directory: local().join(name),
        };
        let mut arguments = vec!["up"];
        arguments.extend(parts.iter().map(|part| part.name()));
        set.run(&arguments).await;
        let addresses = Addresses::of(&set.directory).await;
        let mut found = addresses.parts();
        found.own = Some(std::sync::Arc::new(set));
        found
    }

    /// Fills the addresses that are empty with those of the shared parts. Only the
    /// private ones can be killed.
    #[must_use]
    pub async fn or_shared(mut self) -> Self {
        let shared = Self::shared().await;
        for (own, other) in [
            (&mut self.database_url, shared.database_url),
            (&mut self.kafka_brokers, shared.kafka_brokers),
            (&mut self.redis_url, shared.redis_url),
        ] {
            if own.is_empty() {
                *own = other;
            }
        }
        self.shared_directory = shared.shared_directory;
        self
    }

    fn own(&self) -> &OwnSet {
        self.own
            .as_deref()
            .unwrap_or_else(|| panic!("shared parts belong to every test"))
    }

    /// Where the data of private parts are.
    pub(crate) fn directory(&self) -> &Path {
        &self.own().directory
    }

    /// Sends SIGKILL to a private part.
    pub async fn kill(&self, part: Part) {
        self.own().run(&["kill", part.name()]).await;
    }

    /// Stops a private part with SIGSTOP until the guard is dropped; its connections stay open. Kafka
    /// and Redis only, because each session of PostgreSQL is a process.
    #[must_use]
    pub async fn pause(&self, part: Part) -> Paused {
        assert_ne!(part, Part::Postgres, "it has more than one process");
        let pid = self.pid(part);
        signal(pid, "STOP");
        Paused(pid)
    }

    /// The first process of a part; of one that the environment names, if it names
    /// `TEST_PARTS_DIRECTORY` too.
    pub fn pid(&self, part: Part) -> u32 {
        let own = self.own.as_ref().map(|set| &set.directory);
        let file = [own, self.shared_directory.as_ref()]
            .into_iter()
            .flatten()
            .map(|directory| directory.join(part.name()).join("pid"))
            .find(|file| file.exists())
            .unwrap_or_else(|| panic!("nobody says where the data of {part:?} are"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        let pid = text.split(' ').next().and_then(|pid| pid.parse().ok());
        pid.unwrap_or_else(|| panic!("{file:?}: no pid in {text:?}"))
    }

    /// Starts a private part on the same port and data, and waits until it answers.
    pub async fn start(&self, part: Part) {
        self.own().run(&["start", part.name()]).await;
    }

    /// Stops a private part cleanly.
    pub async fn stop(&self, part: Part) {
        self.own().run(&["stop", part.name()]).await;
    }

    /// Stops a private PostgreSQL without a checkpoint (`pg_ctl -m immediate`).
    pub async fn stop_postgres_immediately(&self) {
        self.own().run(&["stop", "postgres", "--immediate"]).await;
    }
}

/// A part that is stopped with SIGSTOP; it continues when this is dropped.
#[derive(Debug)]
pub struct Paused(u32);

impl Drop for Paused {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        if Path::new(&format!("/proc/{}", self.0)).exists() {
            signal(self.0, "CONT");
        }
    }
}

/// The edge proxy, one base URL for the services; stopped when dropped.
#[derive(Debug)]
pub struct Edge {
    port: Port,
    /// Stops the proxy on drop.
    _set: OwnSet,
}

impl Edge {
    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Starts the proxy in front of services on these ports.
    pub async fn start(ingest: u16, query: u16) -> Self {
        Self::before(&[
            ("TIDEGATE_INGEST_PORT", ingest),
            ("TIDEGATE_QUERY_PORT", query),
        ])
        .await
    }

    /// Starts the proxy in front of a processor alone.
    pub async fn of_processor(port: u16) -> Self {
        Self::before(&[("TIDEGATE_PROCESSOR_PORT", port)]).await
    }

    async fn before(services: &[(&str, u16)]) -> Self {
        sweep().await;
        let name = format!("private-{}-{}", std::process::id(), unique());
        let set = OwnSet {
            directory: local().join(name),
        };
        let port = Port::free();
        let ports: Vec<_> = [("TIDEGATE_EDGE_PORT", port.number())]
            .iter()
            .chain(services)
            .map(|(name, port)| (*name, port.to_string()))
            .collect();
        let mut environment = vec![("TIDEGATE_PORTS", "fixed")];
        environment.extend(ports.iter().map(|(name, port)| (*name, port.as_str())));
        run_with(&set.directory, &["up", "edge"], &environment)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        Self { port, _set: set }
    }

    /// `http://127.0.0.1:port` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }
}

/// A set of parts that is deleted when dropped.
#[derive(Debug)]
struct OwnSet {
    directory: PathBuf,
}

impl OwnSet {
    async fn run(&self, arguments: &[&str]) {
        run(&self.directory, arguments)
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
    }
}

impl Drop for OwnSet {
    fn drop(&mut self) {
        // Blocks: a test must not end before its processes do.
        let reset = std::process::Command::new(tool())
            .arg("reset")
            .env("TIDEGATE_LOCAL_DIR", &self.directory)
            .env("TIDEGATE_WAIT", "10")
            .output();
        match reset {
            Ok(output) if output.status.success() => {}
            other => eprintln!(
                "testkit: parts reset in {}: {other:?}",
                self.directory.display()
            ),
        }
    }
}

/// The directory of the sets of parts.
fn local() -> PathBuf {
    target().join("local")
}

/// `deploy/local/parts`.
pub(crate) fn tool() -> PathBuf {
    std::env::var_os("TIDEGATE_PARTS")
        .map_or_else(|| workspace().join("deploy/local/parts"), PathBuf::from)
}

async fn run(directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    run_with(directory, arguments, &[("TIDEGATE_PORTS", "auto")]).await
}

async fn run_with(
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> anyhow::Result<String> {
    let output = Command::new(tool())
        .args(arguments)
        .env("TIDEGATE_LOCAL_DIR", directory)
        .envs(environment.iter().copied())
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .with_context(|| format!("{}", tool().display()))?;
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let stderr = String::from_utf8_lossy(&stderr);
    ensure!(
        status.success(),
        "parts {arguments:?} in {}: {status}\n{stderr}",
        directory.display()
    );
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Deletes the private sets of test processes that were killed.
async fn sweep() {
    let Ok(entries) = std::fs::read_dir(local()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix("private-")
            .and_then(|rest| rest.split('-').next());
        if let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{pid}")).exists()
            && let Err(error) = run(&entry.path(), &["reset"]).await
        {
            eprintln!("testkit: {error:#}");
        }
    }
}

async fn shared() -> Parts {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let named = (
        variable("TEST_DATABASE_URL"),
        variable("TEST_KAFKA_BROKERS"),
        variable("TEST_REDIS_URL"),
    );
    if let (Some(database_url), Some(kafka_brokers), Some(redis_url)) = named {
        return Parts {
            database_url,
            kafka_brokers,
            redis_url,
            own: None,
            shared_directory: std::env::var_os("TEST_PARTS_DIRECTORY").map(PathBuf::from),
        };
    }
    let (database_url, kafka_brokers, redis_url) = named;
    let started = start_shared()
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    Parts {
        database_url: database_url.unwrap_or(started.database_url),
        kafka_brokers: kafka_brokers.unwrap_or(started.kafka_brokers),
        redis_url: redis_url.unwrap_or(started.redis_url),
        own: None,
        shared_directory: started.shared_directory,
    }
}

async fn start_shared() -> anyhow::Result<Parts> {
    std::fs::create_dir_all(local())?;
    // Test binaries may come here at the same moment; one of them starts the set.
    let lock = std::fs::File::create(local().join("shared.lock"))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
    let directory = local().join("test");
    run(&directory, &["up", "postgres", "redis", "kafka"]).await?;
    let mut parts = Addresses::of(&directory).await.parts();
    parts.shared_directory = Some(directory);
    drop(lock);
    Ok(parts)
}

/// The assignments that `parts env` prints.
struct Addresses(HashMap<String, String>);

impl Addresses {
    async fn of(directory: &Path) -> Self {
        let text = run(directory, &["env"])
            .await
            .unwrap_or_else(|error| panic!("{error:#}"));
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let assignment = |line: &str| {
            let (name, value) = line.split_once('=')?;
            // Quoted for the shell by `printf %q`.
            Some((name.to_owned(), value.replace('\\', "")))
        };
        Self(text.lines().filter_map(assignment).collect())
    }

    fn parts(&self) -> Parts {
        let value = |name: &str| self.0.get(name).cloned().unwrap_or_default();
        Parts {
            database_url: value("DATABASE_URL"),
            kafka_brokers: value("KAFKA_BROKERS"),
            redis_url: value("REDIS_URL"),
            own: None,
            shared_directory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_shell_assignments() {
        let text = "DATABASE_URL=postgresql://u:p@127.0.0.1:1/d\\?a=b\nKAFKA_BROKERS=127.0.0.1:2\n";
        let parts = Addresses::parse(text).parts();
        assert_eq!(parts.database_url, "postgresql://u:p@127.0.0.1:1/d?a=b");
        assert_eq!(parts.kafka_brokers, "127.0.0.1:2");
        assert_eq!(parts.redis_url, "");
    }
}
