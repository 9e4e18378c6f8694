//! nginx with the nchan module on Redis, as a peer; Debian's package libnginx-mod-nchan.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// A running nginx of this program's own.
pub(crate) struct Nchan {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl Nchan {
    /// Starts it on that Redis, if it is installed.
    pub(crate) async fn start(redis_url: &str) -> anyhow::Result<Option<Self>> {
        if !Path::new(MODULE).exists() {
            return Ok(None);
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let directory = std::env::temp_dir().join(format!("tidegate-nchan-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("temp"))?;
        std::fs::write(directory.join("nginx.conf"), config(port, redis_url))?;
        let child = Command::new("/usr/sbin/nginx")
            .args(["-e", "nginx.log", "-c", "nginx.conf", "-p"])
            .arg(&directory)
            .stdin(Stdio::null())
            .spawn()
            .context("nginx")?;
        let nchan = Self {
            child,
            directory,
            port,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(
                Instant::now() < deadline,
                "nginx with nchan does not listen"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It connects to Redis after it listens.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Some(nchan))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Resident bytes of its workers, with what they share counted once.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children"))?;
        let mut kib = 0;
        for pid in children.split_whitespace() {
            let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            kib += number.context("no Pss")?.trim().parse::<u64>()?;
        }
        Ok(kib * 1_024)
    }
}

impl Drop for Nchan {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn config(port: u16, redis_url: &str) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path temp/{kind};"))
        .join("\n    ");
    let redis = redis_url.trim_end_matches("/0");
    format!(
        "load_module {MODULE};
user root;
daemon off;
worker_processes 2;
pid nginx.pid;
error_log nginx.log error;
worker_rlimit_nofile 20000;
events {{
    worker_connections 10000;
}}
http {{
    access_log off;
    {temporary}
    nchan_shared_memory_size 256m;
    upstream channels {{
        nchan_redis_server {redis};
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/pub/(\\w+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            nchan_redis_pass channels;
            nchan_message_buffer_length 1000;
            nchan_message_timeout 1h;
        }}
        location ~ ^/sub/(\\w+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message newest;
            nchan_redis_pass channels;
        }}
    }}
}}
"
    )
}
