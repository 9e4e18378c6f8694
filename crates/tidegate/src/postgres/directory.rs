//! The directory a private cluster lives in, and who may use it.
//!
//! ```text
//! lock               whose it is now
//! password           of the database's user, made once
//! port               of the database, kept while it is free
//! postgres/          the cluster, owned by the user PostgreSQL runs as
//! postgres.location  where it is instead, if that user cannot get in here
//! postgres.log       what PostgreSQL says
//! environment        what runs now, as shell assignments
//! ```

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::predecessor::is_in_use;
use super::user::{User, reaches};
use crate::output;

/// Names begin so, that leftovers of a killed run are found.
const EPHEMERAL: &str = "tidegate-ephemeral-";

/// A directory of our own: locked until dropped, and deleted then if it is ephemeral.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Where the cluster is: the same, or a place that PostgreSQL's user can reach.
    base: PathBuf,
    lock: File,
    is_ephemeral: bool,
}

impl Directory {
    /// Where data goes without `--data-dir`: `/var/lib/tidegate` for root, else where the user's
    /// applications keep theirs.
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

    /// Makes the directory if it is absent, and takes it.
    ///
    /// # Errors
    /// It cannot be made or written to, or another process has it; the sentence says which.
    pub(crate) fn open(path: &Path, user: Option<&User>) -> anyhow::Result<Self> {
        let path = std::path::absolute(path)?;
        Self::take(path, user, false)
    }

    /// A directory for one run.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn ephemeral(user: Option<&User>) -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        let path = parent.join(format!("{EPHEMERAL}{}", uuid::Uuid::new_v4().simple()));
        Self::take(path, user, true)
    }

    fn take(path: PathBuf, user: Option<&User>, is_ephemeral: bool) -> anyhow::Result<Self> {
        let shown = path.display();
        // Root's is passed through by the unprivileged user.
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
        let mut this = Self {
            base: path.clone(),
            path,
            lock,
            is_ephemeral,
        };
        if let Some(user) = user {
            this.base = this.reachable(user)?;
        }
        Ok(this)
    }

    /// The directory itself, or one of PostgreSQL's user's own if that user cannot get into it (it
    /// lies below /root, say). Once chosen it stays.
    fn reachable(&self, user: &User) -> anyhow::Result<PathBuf> {
        let note = self.path.join("postgres.location");
        if let Ok(place) = std::fs::read_to_string(&note)
            && let Some(base) = Path::new(place.trim()).parent()
        {
            own(base, user)?;
            return Ok(base.to_owned());
        }
        if reaches(user, &self.path) {
            return Ok(self.path.clone());
        }
        let name = self.path.as_os_str().as_encoded_bytes();
        let hash = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, name);
        let base = Path::new("/var/tmp").join(format!("tidegate-{}", hash.simple()));
        own(&base, user)?;
        let cluster = base.join("postgres");
        std::fs::write(&note, format!("{}\n", cluster.display()))?;
        output::notice(format_args!(
            "the user {} cannot get into {}: the cluster is in {}",
            user.name,
            self.path.display(),
            cluster.display()
        ));
        Ok(base)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes when this is dropped.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.is_ephemeral
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.base.join("postgres")
    }

    /// What runs now, as shell assignments.
    pub(crate) fn environment(&self) -> PathBuf {
        self.path.join("environment")
    }

    /// What PostgreSQL says.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// The database's password: made the first time, then kept.
    ///
    /// # Errors
    /// It can neither be read nor written.
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

    /// A file with the password that `initdb` can read.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn password_file(&self, user: Option<&User>) -> anyhow::Result<PathBuf> {
        let path = self.base.join("password.initdb");
        let _ = std::fs::remove_file(&path);
        write_secret(&path, &self.password()?)?;
        if let Some(user) = user {
            chown(&path, Some(user.uid), Some(user.gid))?;
        }
        Ok(path)
    }

    /// A free port of loopback, the one of the last run if it still is.
    ///
    /// # Errors
    /// There is none.
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

    /// An empty directory in which only the user PostgreSQL runs as may do anything.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn fresh(&self, name: &str, user: Option<&User>) -> anyhow::Result<PathBuf> {
        let path = self.base.join(name);
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
        if self.is_ephemeral && self.base != self.path {
            let _ = std::fs::remove_dir_all(&self.base);
        }
        if self.is_ephemeral
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            output::notice(format_args!(
                "tidegate: {} stays: {error}",
                self.path.display()
            ));
        }
        let _ = self.lock.unlock();
    }
}

/// Writes a file for us alone.
///
/// # Errors
/// It cannot be written.
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

/// Makes a directory of that user's own, or makes sure that it is: somebody else's in a place where
/// anybody may make one is not to be trusted.
fn own(path: &Path, user: &User) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => chown(path, Some(user.uid), Some(user.gid))?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let about = std::fs::symlink_metadata(path)?;
            if !about.is_dir() || about.uid() != user.uid {
                bail!("{} exists and is not {}'s", path.display(), user.name);
            }
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be made", path.display()));
        }
    }
    Ok(())
}

/// Deletes what killed runs left: directories whose lock nobody holds.
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
