//! An OpenSearch of a test's own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::parts::tool;
use crate::port::Port;
use crate::wait::eventually;

/// It is a large program, and the machine may be busy.
const START: Duration = Duration::from_secs(180);

/// One node, whose jars `deploy/local/parts install --with search` brings.
#[derive(Debug)]
pub struct OpenSearch {
    port: Port,
    directory: PathBuf,
    server: Option<Child>,
}

impl OpenSearch {
    /// Starts one; its data are on disk and outlive [`Self::kill`].
    pub async fn start() -> Self {
        let name = format!("tidegate-search-{}", uuid::Uuid::new_v4().simple());
        let mut own = Self {
            port: Port::free(),
            directory: std::env::temp_dir().join(name),
            server: None,
        };
        own.restart().await;
        own
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Kills it as SIGKILL does.
    pub async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server
                .kill()
                .await
                .unwrap_or_else(|error| panic!("opensearch: {error}"));
        }
    }

    /// Starts it again, with the data it had.
    pub async fn restart(&mut self) {
        self.kill().await;
        let log = self.directory.with_extension("log");
        let log = std::fs::File::create(&log).unwrap_or_else(|error| panic!("{log:?}: {error}"));
        let server = Command::new(tool())
            .arg("opensearch")
            .arg(&self.directory)
            .arg(self.port.number().to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_or_else(|_| Stdio::null(), Stdio::from))
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.server = Some(server.unwrap_or_else(|error| panic!("opensearch: {error}")));
        let health = format!("{}/_cluster/health", self.url());
        eventually("opensearch", START, || async {
            let answer = reqwest::get(&health).await?;
            answer.error_for_status()
        })
        .await;
    }
}

impl Drop for OpenSearch {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.directory);
        let _ = std::fs::remove_file(self.directory.with_extension("log"));
    }
}
