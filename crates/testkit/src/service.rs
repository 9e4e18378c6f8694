//! A built service, run as a process as in production.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::names::{target, unique};
use crate::parts::Parts;
use crate::port::Port;
use crate::process::{ProcessMemory, memory, signal};
use crate::wait::LIMIT;

/// How many lines of the log a failed test shows.
const SHOWN_LINES: usize = 200;

/// A service to start; made by [`TestService::builder`].
#[derive(Debug, Clone)]
pub struct ServiceBuilder {
    name: String,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl ServiceBuilder {
    /// Adds an argument of the command line.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable; the last value counts. Of the test's own environment
    /// the service gets only `PATH`, `HOME` and `RUST_BACKTRACE`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// Sets the addresses of Kafka and Redis, and of the database unless one was set.
    #[must_use]
    pub fn parts(mut self, parts: &Parts) -> Self {
        let url = parts.database_url.clone();
        self.environment
            .entry("DATABASE_URL".to_owned())
            .or_insert(url);
        self.env("KAFKA_BROKERS", &parts.kafka_brokers)
            .env("REDIS_URL", &parts.redis_url)
    }

    /// Sets the database.
    #[must_use]
    pub fn database(self, database: &Database) -> Self {
        self.env("DATABASE_URL", &database.url)
    }

    /// Starts the service and waits until `/ready` answers 200.
    pub async fn start(self) -> TestService {
        let mut service = self.spawn();
        service.wait_ready().await;
        service
    }

    /// Starts the service and returns at once.
    pub fn spawn(self) -> TestService {
        let port = Port::free();
        let directory = target().join("local/logs");
        std::fs::create_dir_all(&directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
        let log = directory.join(format!("{}-{}.log", self.name, unique()));
        let child = self.launch(port.number(), &log);
        TestService {
            builder: self,
            port,
            log,
            child,
        }
    }

    fn launch(&self, port: u16, log: &PathBuf) -> Child {
        let binary = binary(&self.name);
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .unwrap_or_else(|e| panic!("{log:?}: {e}"))
        };
        let mut command = Command::new(&binary);
        command.args(&self.arguments).env_clear();
        for name in ["PATH", "HOME", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("EVENT_SERVICE_HOST", "127.0.0.1")
            .env(
                format!("{}_PORT", self.name.to_uppercase()),
                port.to_string(),
            )
            // What a test sends is no surge.
            .env("ANOMALY_INTERVAL", "0")
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open());
        command.spawn().unwrap_or_else(|error| {
            panic!(
                "{}: {error}; build it: cargo build -p {}",
                binary.display(),
                self.name
            )
        })
    }
}

/// A running service. Dropping it kills the process, and prints its log if the test fails.
#[derive(Debug)]
pub struct TestService {
    builder: ServiceBuilder,
    port: Port,
    log: PathBuf,
    child: Child,
}

impl TestService {
    /// `ingest`, `processor`, `query` or `tidegate`, with a free port on loopback. The binary is
    /// taken from `TIDEGATE_BIN_DIR`, else from where the test itself was built.
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder {
            name: name.to_owned(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
        }
    }

    /// `http://127.0.0.1:port` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The memory of its process; panics when it has ended.
    pub fn memory(&self) -> ProcessMemory {
        memory(self.pid()).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The log of all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `/ready` answers 200; panics if the process ends first.
    pub async fn wait_ready(&mut self) {
        let client = reqwest::Client::new();
        let started = Instant::now();
        let mut last = "no answer".to_owned();
        while started.elapsed() < LIMIT {
            if let Some(status) = self.exited() {
                panic!("{} ended before it was ready: {status}", self.builder.name);
            }
            match client
                .get(self.url("/ready"))
                .timeout(Duration::from_secs(5))
                .send()
                .await
            {
                Ok(response) if response.status() == 200 => return,
                Ok(response) => {
                    last = format!("{} {:?}", response.status(), response.text().await);
                }
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} is not ready after {LIMIT:?}: {last}", self.builder.name);
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        // An error means that it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM; returns the exit status. Panics after [`LIMIT`].
    pub async fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            if let Some(status) = self.exited() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} does not end on SIGTERM", self.builder.name);
    }

    /// Stops the process with SIGSTOP; its connections stay open.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// Continues the process with SIGCONT.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// Kills the process, starts it again on the same port and waits until it is ready.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = self.builder.launch(self.port(), &self.log);
        self.wait_ready().await;
    }
}

impl Drop for TestService {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let from = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("--- the end of {} ---", self.log.display());
            lines[from..].iter().for_each(|line| eprintln!("{line}"));
        } else {
            // Nobody will look for it.
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

fn binary(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("TIDEGATE_BIN_DIR") {
        return PathBuf::from(directory).join(name);
    }
    // target/debug/deps/it-0123 -> target/debug
    let own = std::env::current_exe().unwrap_or_else(|error| panic!("own executable: {error}"));
    let mut directory = own.ancestors().skip(1);
    let near = directory.next().map(PathBuf::from).unwrap_or_default();
    if near
        .file_name()
        .is_some_and(|name| name == "deps" || name == "examples")
    {
        return directory
            .next()
            .map(PathBuf::from)
            .unwrap_or(near)
            .join(name);
    }
    near.join(name)
}
