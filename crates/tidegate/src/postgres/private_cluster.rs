//! A PostgreSQL cluster of our own, together with the directory it lives in.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, STOPPING};
use super::directory::Directory;
use super::search;
use super::stale_server::is_in_use;
use super::user::User;

/// What a cluster is started from, the first time and after its server ended by itself.
pub(crate) struct PrivateCluster {
    /// The directory, locked as long as this lives.
    pub(crate) directory: Directory,
    binaries: Option<PathBuf>,
    user: Option<User>,
}

impl PrivateCluster {
    /// Locks the directory, or one that is deleted with this. `binaries` is the directory of
    /// PostgreSQL's programs, if it is not to be searched for.
    ///
    /// # Errors
    /// The directory cannot be used, or there is no user to run PostgreSQL as.
    pub(crate) fn open(
        directory: Option<&Path>,
        is_ephemeral: bool,
        binaries: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let user = User::unprivileged()?;
        let directory = match directory {
            _ if is_ephemeral => Directory::ephemeral(user.as_ref())?,
            Some(path) => Directory::open(path, user.as_ref())?,
            None => Directory::open(&Directory::home()?.join("dev"), user.as_ref())?,
        };
        Ok(Self {
            directory,
            binaries,
            user,
        })
    }

    /// Finds the programs and starts the cluster, which is made if there is none yet.
    ///
    /// # Errors
    /// One sentence; nothing is damaged.
    pub(crate) async fn start(&self) -> anyhow::Result<Cluster> {
        let binaries = search::find(self.binaries.as_ref(), &self.directory.cluster()).await?;
        Cluster::start(&self.directory, &binaries, self.user.as_ref()).await
    }

    /// Waits until the guard of an interrupted start has stopped its server.
    pub(crate) async fn stopped(&self) {
        let began = Instant::now();
        while is_in_use(&self.directory.cluster()) && began.elapsed() < STOPPING {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
