//! Making, starting and stopping the cluster.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::process::{Child, ChildStdin};
use tokio_postgres::NoTls;

use super::binaries::Binaries;
use super::directory::Directory;
use super::user::{User, command};
use super::{STOPPING, initdb, predecessor};
use crate::output;

/// User and database.
pub(super) const NAME: &str = "tidegate";

/// Longest path of a socket that every system takes.
const SOCKET_PATH: usize = 90;

/// Runs the server and stops it when we are gone, however that came.
const GUARD: &str = include_str!("guard.sh");

/// A running private PostgreSQL.
#[derive(Debug)]
pub(crate) struct Cluster {
    guard: Child,
    /// Its end ends the server. Apart from the child, for waiting for a child closes what it has.
    control: Option<ChildStdin>,
    port: u16,
    password: String,
    socket: Option<PathBuf>,
}

impl Cluster {
    /// Makes the cluster if there is none yet, starts it and waits until it answers.
    ///
    /// # Errors
    /// One sentence about what is wrong; the cluster is as it was.
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
            predecessor::wait(&data, binaries, user).await?;
            let port = directory.port()?;
            let socket = Some(data.clone()).filter(|d| d.as_os_str().len() <= SOCKET_PATH);
            configure(directory, port, socket.as_deref())?;
            let (log, from) = open_log(&directory.log())?;
            let mut guard = spawn(binaries, user, &data, &log)?;
            let mut cluster = Self {
                control: guard.stdin.take(),
                guard,
                port,
                password: password.clone(),
                socket,
            };
            match cluster.answers().await {
                Ok(None) => return Ok(cluster),
                Err(error) => {
                    // The directory may go with this process; the server must be gone before.
                    let _ = cluster.stop().await;
                    let said = error.to_string();
                    return Err(explain("PostgreSQL does not work", &said, directory));
                }
                Ok(Some(status)) => {
                    let said = said_since(&directory.log(), from);
                    // Between looking and listening somebody may take the port.
                    if said.contains("could not bind") && taken < 3 {
                        taken += 1;
                        continue;
                    }
                    // What is left of a server that was killed ends, or is ended.
                    if said.contains("pre-existing shared memory block")
                        && began.elapsed() < predecessor::PATIENCE
                    {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                    return Err(explain(
                        &format!("PostgreSQL did not start ({status})"),
                        &said,
                        directory,
                    ));
                }
            }
        }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// For the services, by the nearest way.
    pub(crate) fn services_url(&self) -> String {
        match &self.socket {
            Some(directory) => format!(
                "host='{}' port={} user={NAME} password={} dbname={NAME}",
                directory
                    .display()
                    .to_string()
                    .replace('\\', "\\\\")
                    .replace('\'', "\\'"),
                self.port,
                self.password
            ),
            None => self.url(),
        }
    }

    /// For people and their tools.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgresql://{NAME}:{}@127.0.0.1:{}/{NAME}",
            self.password, self.port
        )
    }

    /// Waits until it takes connections and has the database; `Some` if it ended instead.
    async fn answers(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(NAME)
            .password(&self.password)
            .dbname("postgres")
            .connect_timeout(Duration::from_secs(5));
        let began = Instant::now();
        let mut told = false;
        loop {
            // Whoever else has taken the port may say nothing at all.
            let connected = tokio::select! {
                biased;
                status = self.guard.wait() => return Ok(Some(status?)),
                connected = config.connect(NoTls) => connected,
            };
            match connected {
                Ok((client, connection)) => {
                    let connection = tokio::spawn(connection);
                    ensure_database(&client).await.map_err(|error| {
                        let error = error
                            .as_db_error()
                            .map_or_else(|| error.to_string(), |error| error.message().to_owned());
                        anyhow::anyhow!("the database could not be made: {error}")
                    })?;
                    drop(client);
                    let _ = connection.await;
                    return Ok(None);
                }
                // Another server has taken the port, or the password file was changed.
                Err(error)
                    if error
                        .code()
                        .is_some_and(|code| code.code().starts_with("28")) =>
                {
                    bail!("PostgreSQL does not accept the password in the data directory: {error}");
                }
                Err(_) => {}
            }
            if !told && began.elapsed() > Duration::from_secs(5) {
                told = true;
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

    /// Stops it with a checkpoint, so that the next start needs no recovery.
    ///
    /// # Errors
    /// It has not ended after a minute.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.control.take());
        if tokio::time::timeout(STOPPING, self.guard.wait())
            .await
            .is_err()
        {
            // Its guard hears nothing more; the next start deals with the server.
            bail!("PostgreSQL does not stop: see its log");
        }
        Ok(())
    }
}

async fn ensure_database(client: &tokio_postgres::Client) -> Result<(), tokio_postgres::Error> {
    let there = client
        .query_opt("select 1 from pg_database where datname = $1", &[&NAME])
        .await?;
    if there.is_none() {
        client
            .batch_execute("create database tidegate strategy file_copy")
            .await?;
        client
            .batch_execute("alter role tidegate set search_path = event, public")
            .await?;
    }
    Ok(())
}

/// Settings of this run. fsync and synchronous_commit keep their defaults (on), so that an
/// acknowledged event stays, but where the data is thrown away anyhow.
fn configure(directory: &Directory, port: u16, socket: Option<&Path>) -> anyhow::Result<()> {
    let socket = socket.map(|path| path.display().to_string().replace('\'', "''"));
    let fsync = if directory.is_ephemeral() {
        "off"
    } else {
        "on"
    };
    let text = format!(
        "listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{}'
unix_socket_permissions = 0777
fsync = {fsync}
max_connections = 100
shared_buffers = 128MB
max_wal_size = 2GB
wal_compression = on
checkpoint_timeout = 15min
jit = off
log_line_prefix = '%m [%p] %a '
",
        socket.unwrap_or_default()
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
        // The terminal's Ctrl-C is for us; the server is stopped after the services.
        .process_group(0);
    tokio::process::Command::from(guard)
        .spawn()
        .context("PostgreSQL cannot be started")
}

/// Opens the log for appending, a large one anew; and where it ends.
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

fn said_since(path: &Path, from: u64) -> String {
    let mut said = Vec::new();
    if let Ok(mut log) = File::open(path)
        && log.seek(SeekFrom::Start(from)).is_ok()
    {
        let _ = log.read_to_end(&mut said);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// One sentence for what PostgreSQL said in many.
pub(super) fn explain(what: &str, said: &str, directory: &Directory) -> anyhow::Error {
    let path = directory.path().display();
    let full = [
        "No space left on device",
        "Disk quota exceeded",
        // A write that was cut short has no reason of the system's.
        "wrote only",
    ];
    if full.iter().any(|words| said.contains(words)) {
        return anyhow::anyhow!("the disk of {path} is full: {what}");
    }
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let telling = |line: &&&str| line.contains("FATAL") || line.contains("error:");
    let last = lines
        .iter()
        .rev()
        .find(telling)
        .or(lines.last())
        .copied()
        .unwrap_or("it said nothing");
    // Only where it is there, and stays.
    let also = if directory.is_ephemeral() || !directory.log().exists() {
        String::new()
    } else {
        format!(" (see also {path}/postgres.log)")
    };
    anyhow::anyhow!("{what}: {}{also}", last.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_called_so_and_the_rest_by_its_error() {
        let path = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4()));
        let directory = Directory::open(&path, None).unwrap();
        let says = |said: &str| explain("initdb failed", said, &directory).to_string();
        for said in [
            "LOG: x\nFATAL: could not write to file \"pg_wal/1\": No space left on device\n",
            "FATAL: could not extend file \"base/1\": wrote only 4096 of 8192 bytes at block 19",
        ] {
            let full = format!("the disk of {} is full", path.display());
            assert!(says(said).starts_with(&full), "{}", says(said));
        }
        let other = says("LOG: starting\nFATAL:  data directory has wrong ownership\nHINT: x\n");
        assert!(
            other.contains("initdb failed: FATAL:  data directory has"),
            "{other}"
        );
        drop(directory);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
