//! The directory of a private cluster.
//!
//! ```text
//! lock           held by the process that uses the directory
//! password       of the database's user, made once
//! port           of the database, kept while it is free
//! postgres/      the cluster, owned by the user PostgreSQL runs as
//! postgres.log   the log of PostgreSQL
//! environment    the addresses of the running services, as shell assignments
//! ```

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::stale_server::is_in_use;
use super::user::{User, reaches};
use crate::output;

/// The prefix of ephemeral directories, by which those of killed runs are found.
const EPHEMERAL: &str = "tidegate-ephemeral-";

/// The directory of a cluster: locked until it is dropped, and deleted then if it is ephemeral.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: File,
    is_ephemeral: bool,
}

impl Directory {
    /// The parent of data directories without `--data-dir`: `/var/lib/tidegate` for root, else below
    /// the user's directory for application data.
    pub(crate) fn home() -> anyhow::Result<PathBuf> {
        if rustix::process::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/tidegate"));
        }
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("tidegate"))
            .context("neither HOME nor XDG_DATA_HOME is set: name a directory with --data-dir")
    }

    /// Makes the directory if it is absent, and locks it.
    ///
    /// # Errors
    /// The directory cannot be made or written to, another process uses it, or the user that
    /// PostgreSQL runs as cannot enter it.
    pub(crate) fn open(path: &Path, user: Option<&User>) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        Self::take(path, user, false)
    }

    /// Makes a directory for one run.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(crate) fn ephemeral(user: Option<&User>) -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        let path = parent.join(format!("{EPHEMERAL}{}", uuid::Uuid::new_v4().simple()));
        Self::take(path, user, true)
    }

    fn take(path: PathBuf, user: Option<&User>, is_ephemeral: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        // Where root hands PostgreSQL to another user, that user passes through.
        let mode = if user.is_some() { 0o755 } else { 0o700 };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)
            .with_context(|| format!("the data directory {shown} cannot be made"))?;
        let lock = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path.join("lock"))
            .with_context(|| format!("the data directory {shown} cannot be written to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = (&lock).read_to_string(&mut owner);
                bail!(
                    "another tidegate ({}) uses the data directory {shown}: stop it, or name \
                     another directory with --data-dir",
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("{shown} cannot be locked"));
            }
        }
        lock.set_len(0)?;
        writeln!(&lock, "pid {}", std::process::id())
            .with_context(|| format!("the data directory {shown} cannot be written to"))?;
        if let Some(user) = user.filter(|user| !reaches(user, &path)) {
            bail!(
                "PostgreSQL runs as the user {}, who cannot enter {shown}: name another directory \
                 with --data-dir, or another user with TIDEGATE_PG_USER",
                user.name
            );
        }
        Ok(Self {
            path,
            lock,
            is_ephemeral,
        })
    }

    /// The path, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory is deleted on drop.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.is_ephemeral
    }

    /// The data directory of PostgreSQL.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// The file with the addresses of the running services, as shell assignments.
    pub(crate) fn environment(&self) -> PathBuf {
        self.path.join("environment")
    }

    /// The log of PostgreSQL.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// The database's password, made the first time.
    ///
    /// # Errors
    /// The file can neither be read nor written.
    pub(crate) fn password(&self) -> anyhow::Result<String> {
        let path = self.path.join("password");
        if let Ok(known) = std::fs::read_to_string(&path)
            && !known.trim().is_empty()
        {
            return Ok(known.trim().to_owned());
        }
        let fresh = uuid::Uuid::new_v4().simple().to_string();
        write_secret(&path, &fresh)?;
        Ok(fresh)
    }

    /// A free port of loopback: that of the last run while it is free.
    ///
    /// # Errors
    /// There is none, or the file cannot be written.
    pub(crate) fn port(&self) -> anyhow::Result<u16> {
        let path = self.path.join("port");
        let known = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse::<u16>().ok());
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port));
        if let Some(known) = known
            && free(known).is_ok()
        {
            return Ok(known);
        }
        let port = free(0)?.local_addr()?.port();
        std::fs::write(&path, port.to_string())?;
        Ok(port)
    }

    /// Makes an empty directory for the user that PostgreSQL runs as alone.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(crate) fn fresh(&self, name: &str, user: Option<&User>) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        if let Some(user) = user {
            chown(&path, Some(user.uid), Some(user.gid))?;
        }
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_ephemeral
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            output::notice(format_args!(
                "tidegate: {} could not be deleted: {error}",
                self.path.display()
            ));
        }
        let _ = self.lock.unlock();
    }
}

/// Writes a file that only this user can read.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

/// Deletes the ephemeral directories of killed runs: no process holds their locks.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(EPHEMERAL)
            && let Ok(lock) = File::open(entry.path().join("lock"))
            && lock.try_lock().is_ok()
            && !is_in_use(&entry.path().join("postgres"))
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
