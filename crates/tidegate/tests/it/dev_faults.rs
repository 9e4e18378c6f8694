//! `tidegate dev` whose PostgreSQL does not start again as before: scripts delay its programs.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use testkit::{LIMIT, TestService, eventually};

use crate::command::{Directory, post, stored};

/// PostgreSQL's programs, which wait before they begin for as long as a file is there. What they only
/// tell of themselves they tell at once.
struct Programs(Directory);

impl Programs {
    fn new() -> Self {
        let this = Self(Directory::new());
        // PostgreSQL's user writes here too.
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&this.0.0, open).unwrap();
        for program in ["initdb", "postgres"] {
            let real = installed().join(program);
            let (real, hold, waits) = (real.display(), this.hold(program), this.waits(program));
            let (hold, waits) = (hold.display(), waits.display());
            let quit = this.0.path("quit");
            let quit = quit.display();
            let script = format!(
                "#!/bin/sh\n\
                 [ \"$1\" = --version ] || [ \"$1\" = -C ] || while [ -e {hold} ]; do : > {waits}; sleep 0.05; done\n\
                 [ -e {quit} ] && rm {waits} && exit 1\n\
                 exec {real} \"$@\"\n"
            );
            let path = this.0.path(program);
            std::fs::write(&path, script).unwrap();
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, executable).unwrap();
        }
        this
    }

    fn hold(&self, program: &str) -> PathBuf {
        self.0.path(&format!("{program}.hold"))
    }

    fn waits(&self, program: &str) -> PathBuf {
        self.0.path(&format!("{program}.waits"))
    }

    /// From now on this program waits when it is started.
    fn hold_up(&self, program: &str) {
        std::fs::write(self.hold(program), "").unwrap();
    }

    async fn is_waiting(&self, program: &str) {
        eventually("the program waits", LIMIT, || async {
            self.waits(program).exists().then_some(()).ok_or("not yet")
        })
        .await;
    }

    fn let_go(&self, program: &str) {
        std::fs::remove_file(self.hold(program)).unwrap();
    }

    /// Ends one that waits: a script is deaf to the signal that PostgreSQL would hear.
    async fn give_up(&self, program: &str) {
        std::fs::write(self.0.path("quit"), "").unwrap();
        self.let_go(program);
        eventually("the program has ended", LIMIT, || async {
            let there = self.waits(program).exists();
            (!there).then_some(()).ok_or("not yet")
        })
        .await;
        std::fs::remove_file(self.0.path("quit")).unwrap();
    }

    fn dev(&self, directory: &Directory) -> testkit::ServiceBuilder {
        directory.dev().env("TIDEGATE_PG_BIN", self.0.0.display())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.path("quit"), "");
        for program in ["initdb", "postgres"] {
            let _ = std::fs::remove_file(self.hold(program));
        }
    }
}

/// Where the machine's PostgreSQL is.
fn installed() -> PathBuf {
    let script = "pg_config --bindir 2>/dev/null; ls -d /usr/lib/postgresql/*/bin | sort -rV";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let has = |directory: &&str| Path::new(directory).join("initdb").exists();
    PathBuf::from(text.lines().find(has).expect("PostgreSQL is installed"))
}

/// SIGKILL to the server of that directory.
fn kill_postgres(directory: &Directory) {
    let text = std::fs::read_to_string(directory.cluster().join("postmaster.pid")).unwrap();
    let pid = text.lines().next().unwrap();
    let killed = Command::new("kill").args(["-s", "KILL", pid]).status();
    assert!(killed.unwrap().success());
}

async fn one_event(dev: &TestService) -> String {
    eventually("taken", LIMIT, || async {
        post(dev, &json!({"event_type": "a"}))
            .await
            .map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_heard_while_postgres_does_not_come_back() {
    let (directory, programs) = (Directory::new(), Programs::new());
    let mut dev = programs.dev(&directory).start().await;
    let id = one_event(&dev).await;
    stored(&dev, &id).await;
    programs.hold_up("postgres");
    kill_postgres(&directory);
    programs.is_waiting("postgres").await;
    let status = dev.terminate().await;
    assert!(status.success(), "{status}");
    programs.give_up("postgres").await;
    dev.restart().await;
    stored(&dev, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_heard_while_the_cluster_is_made() {
    let (directory, programs) = (Directory::new(), Programs::new());
    programs.hold_up("initdb");
    let mut dev = programs.dev(&directory).spawn();
    programs.is_waiting("initdb").await;
    assert!(!dev.terminate().await.success());
    programs.let_go("initdb");
    dev.restart().await;
    let id = one_event(&dev).await;
    stored(&dev, &id).await;
}

/// Another process takes the port while the server is down.
#[tokio::test(flavor = "multi_thread")]
async fn the_services_follow_postgres_to_another_port() {
    let (directory, programs) = (Directory::new(), Programs::new());
    let mut dev = programs.dev(&directory).start().await;
    let first = one_event(&dev).await;
    stored(&dev, &first).await;
    let port = || std::fs::read_to_string(directory.path("port")).unwrap();
    let before = port();
    programs.hold_up("postgres");
    kill_postgres(&directory);
    programs.is_waiting("postgres").await;
    let taken = TcpListener::bind(("127.0.0.1", before.trim().parse().unwrap())).unwrap();
    programs.let_go("postgres");
    eventually("another port", LIMIT, || async {
        (port() != before).then_some(()).ok_or("the same")
    })
    .await;
    let second = one_event(&dev).await;
    stored(&dev, &second).await;
    stored(&dev, &first).await;
    let environment = std::fs::read_to_string(directory.path("environment")).unwrap();
    let address = format!("127.0.0.1:{}/", port().trim());
    assert!(environment.contains(&address), "{environment}");
    drop(taken);
    let status = dev.terminate().await;
    assert!(status.success(), "{status}");
}
