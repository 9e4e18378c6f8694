//! A NATS server with JetStream of a test's own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::port::Port;
use crate::wait::{LIMIT, eventually};

/// Who may enter, and the password.
const USER: (&str, &str) = ("events", "not-a-secret");

/// The distribution's `nats-server`, which `deploy/local/parts install --with nats` brings.
#[derive(Debug)]
pub struct Nats {
    port: Port,
    directory: PathBuf,
    server: Option<Child>,
}

impl Nats {
    /// Starts one; its streams are on disk and outlive [`Self::kill`].
    pub async fn start() -> Self {
        let name = format!("tidegate-nats-{}", uuid::Uuid::new_v4().simple());
        let directory = std::env::temp_dir().join(name);
        let port = Port::free();
        let (user, password) = USER;
        let settings = format!(
            "listen: \"127.0.0.1:{}\"\nauthorization {{ user: {user}, password: \"{password}\" }}\n\
             jetstream {{ store_dir: \"{}\" }}\n",
            port.number(),
            directory.display()
        );
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(directory.join("nats.conf"), settings))
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut own = Self {
            port,
            directory,
            server: None,
        };
        own.restart().await;
        own
    }

    /// Its address, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let (user, password) = USER;
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port.number())
    }

    /// Its address without them, and the user and password.
    #[must_use]
    pub fn open_url(&self) -> (String, &'static str, &'static str) {
        (
            format!("nats://127.0.0.1:{}", self.port.number()),
            USER.0,
            USER.1,
        )
    }

    /// Kills it as SIGKILL does.
    pub async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server
                .kill()
                .await
                .unwrap_or_else(|error| panic!("nats-server: {error}"));
        }
    }

    /// Starts it again, with the streams it had.
    pub async fn restart(&mut self) {
        self.kill().await;
        let server = Command::new("nats-server")
            .arg("-c")
            .arg(self.directory.join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.server = Some(server.unwrap_or_else(|error| panic!("nats-server: {error}")));
        let address = format!("127.0.0.1:{}", self.port.number());
        eventually("nats-server", LIMIT, || async {
            // It listens before JetStream has its streams back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::net::TcpStream::connect(&address).await
        })
        .await;
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
