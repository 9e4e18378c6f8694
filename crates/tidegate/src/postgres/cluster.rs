//! Starts and stops the server of a cluster.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::process::{Child, ChildStdin};
use tokio_postgres::NoTls;

use super::binaries::Binaries;
use super::directory::Directory;
use super::explain::explain;
use super::initdb::{self, DATABASE, USER};
use super::stale_server;
use super::user::{User, command};
use crate::output;

/// How long a stop may take; it writes a checkpoint.
pub(super) const STOPPING: Duration = Duration::from_secs(60);

/// The longest path of a socket, in bytes, that every system accepts.
const SOCKET_PATH: usize = 90;

/// The script that runs the server, and stops it when this process ends in any way.
const GUARD: &str = include_str!("guard.sh");

/// A running private PostgreSQL.
#[derive(Debug)]
pub(crate) struct Cluster {
    guard: Child,
    /// Closing it stops the server. Apart from the child, because waiting for a child closes what it
    /// has.
    control: Option<ChildStdin>,
    port: u16,
    password: String,
    socket: Option<PathBuf>,
    version: String,
}

impl Cluster {
    /// Makes the cluster if there is none yet, starts it and waits until it answers.
    ///
    /// # Errors
    /// One sentence with the cause; the cluster is as it was.
    pub(crate) async fn start(
        directory: &Directory,
        binaries: &Binaries,
        user: Option<&User>,
    ) -> anyhow::Result<Self> {
        let data = directory.cluster();
        let password = directory.password()?;
        if !data.exists() {
            initdb::make(directory, binaries, user).await?;
        }
        let began = Instant::now();
        let mut taken = 0;
        loop {
            stale_server::wait(&data, binaries, user).await?;
            let port = directory.port()?;
            let socket = Some(data.clone()).filter(|d| d.as_os_str().len() <= SOCKET_PATH);
            configure(directory, binaries, port, socket.as_deref())?;
            let (log, from) = open_log(&directory.log())?;
            let mut guard = spawn(binaries, user, &data, &log)?;
            let mut cluster = Self {
                control: guard.stdin.take(),
                guard,
                port,
                password: password.clone(),
                socket,
                version: binaries.version.clone(),
            };
            let status = match cluster.answers().await {
                Ok(None) => return Ok(cluster),
                Ok(Some(status)) => status,
                Err(error) => {
                    // The directory may go with this process; the server must end before.
                    let _ = cluster.stop().await;
                    let cause = error.to_string();
                    return Err(explain("PostgreSQL does not work", &cause, directory));
                }
            };
            let report = report_since(&directory.log(), from);
            if report.contains("could not bind") && taken < 3 {
                // Another process took the port meanwhile.
                taken += 1;
            } else if report.contains("pre-existing shared memory block")
                && began.elapsed() < stale_server::TIMEOUT
            {
                // A query of a server that was killed still runs.
                tokio::time::sleep(Duration::from_millis(200)).await;
            } else {
                let what = format!("PostgreSQL did not start ({status})");
                return Err(explain(&what, &report, directory));
            }
        }
    }

    /// The version of PostgreSQL.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The port of loopback on which the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The connection string for the services: through the socket where there is one.
    pub(crate) fn services_url(&self) -> String {
        match &self.socket {
            Some(socket) => {
                let socket = socket.display().to_string();
                let socket = socket.replace('\\', "\\\\").replace('\'', "\\'");
                let (port, password) = (self.port, &self.password);
                format!(
                    "host='{socket}' port={port} user={USER} password={password} dbname={DATABASE}"
                )
            }
            None => self.url(),
        }
    }

    /// The URL for people and their tools.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgresql://{USER}:{}@127.0.0.1:{}/{DATABASE}",
            self.password, self.port
        )
    }

    /// Waits until the server accepts connections; `Some` if it ended instead.
    async fn answers(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(USER)
            .password(&self.password)
            .dbname(DATABASE)
            .connect_timeout(Duration::from_secs(5));
        let began = Instant::now();
        let mut is_late = false;
        loop {
            // Another process on the port may never answer.
            let connected = tokio::select! {
                biased;
                status = self.guard.wait() => return Ok(Some(status?)),
                connected = config.connect(NoTls) => connected,
            };
            match connected {
                Ok(_) => return Ok(None),
                // 28: the authorization is invalid. Another server has the port, or the password
                // file was changed.
                Err(error) if error.code().is_some_and(|it| it.code().starts_with("28")) => {
                    bail!("PostgreSQL does not accept the password in the data directory: {error}");
                }
                Err(_) => {}
            }
            if !is_late && began.elapsed() > Duration::from_secs(5) {
                is_late = true;
                output::notice(
                    "PostgreSQL is still starting (it may be recovering after a crash) …",
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns when the server has ended by itself.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.guard.wait().await
    }

    /// Stops the server with a checkpoint, so that the next start needs no recovery.
    ///
    /// # Errors
    /// The server has not ended after a minute.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.control.take());
        // The next start waits for a server that is still there.
        let stopped = tokio::time::timeout(STOPPING, self.guard.wait()).await;
        let _ = stopped.context("PostgreSQL does not stop: see its log")?;
        Ok(())
    }
}

/// Writes the settings of this run. fsync and synchronous_commit are on, so that an acknowledged
/// event stays; fsync is off where the data is deleted anyway.
fn configure(
    directory: &Directory,
    binaries: &Binaries,
    port: u16,
    socket: Option<&Path>,
) -> anyhow::Result<()> {
    let socket = socket.map(|path| path.display().to_string().replace('\'', "''"));
    let fsync = !directory.is_ephemeral();
    let text = format!(
        "listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{}'
unix_socket_permissions = 0777
fsync = {fsync}
max_connections = 100
shared_buffers = {}MB
max_wal_size = 4GB
wal_compression = {}
checkpoint_timeout = 15min
jit = off
search_path = 'event, public'
log_line_prefix = '%m [%p] %a '
",
        socket.unwrap_or_default(),
        shared_buffers(),
        // pglz takes several times the processor time.
        if binaries.has_lz4 { "lz4" } else { "on" },
    );
    let path = directory.cluster().join("tidegate.conf");
    std::fs::write(&path, text).map_err(|error| {
        explain(
            &format!("{} cannot be written", path.display()),
            &error.to_string(),
            directory,
        )
    })
}

/// Megabytes: an eighth of the machine's memory, from 128 MB to 4 GB, so that what is changed between
/// two checkpoints stays there.
fn shared_buffers() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    (kilobytes.unwrap_or_default() / 8 / 1024).clamp(128, 4096)
}

fn spawn(
    binaries: &Binaries,
    user: Option<&User>,
    data: &Path,
    log: &File,
) -> anyhow::Result<Child> {
    let mut guard = command(Path::new("sh"), user);
    guard
        .args(["-c", GUARD, "postgres-guard"])
        .arg(binaries.program("postgres"))
        .arg("-D")
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        // Ctrl-C goes to this process only; the server is stopped after the services.
        .process_group(0);
    tokio::process::Command::from(guard)
        .spawn()
        .context("PostgreSQL cannot be started")
}

/// Opens the log for appending, after moving a large one away. Returns where it ends, in bytes.
fn open_log(path: &Path) -> anyhow::Result<(File, u64)> {
    const LARGE: u64 = 16 * 1024 * 1024;
    if std::fs::metadata(path).is_ok_and(|log| log.len() > LARGE) {
        let _ = std::fs::rename(path, path.with_extension("log.1"));
    }
    let log = File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    let end = log.metadata()?.len();
    Ok((log, end))
}

/// What PostgreSQL reported since the log had `from` bytes.
fn report_since(path: &Path, from: u64) -> String {
    let log = std::fs::read(path).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(log.len());
    String::from_utf8_lossy(&log[from..]).into_owned()
}
