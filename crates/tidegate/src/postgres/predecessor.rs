//! The server of an earlier run that did not end in good order.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::binaries::Binaries;
use super::user::{User, command};

/// How long it may take to end.
const PREDECESSOR: Duration = Duration::from_secs(30);

/// After a `kill -9` of ours its guard is stopping the server; one that nobody guards is stopped
/// here. A stale `postmaster.pid` must not make PostgreSQL believe in a server that is gone.
pub(super) async fn wait(
    data: &Path,
    binaries: &Binaries,
    user: Option<&User>,
) -> anyhow::Result<()> {
    let pid_file = data.join("postmaster.pid");
    let began = Instant::now();
    let mut stopped = false;
    while let Some(pid) = read_pid(&pid_file) {
        if !is_server(pid, data) {
            let _ = std::fs::remove_file(&pid_file);
            return Ok(());
        }
        if began.elapsed() > PREDECESSOR {
            bail!(
                "the PostgreSQL of an earlier run (pid {pid}) still uses {} and does not stop",
                data.display()
            );
        }
        if !stopped && began.elapsed() > Duration::from_secs(3) {
            stopped = true;
            eprintln!("stopping the PostgreSQL of an earlier run (pid {pid}) …");
            let program = binaries.program("pg_ctl");
            let _ = command(&program, user)
                .args(["stop", "-m", "fast", "-W", "-D"])
                .arg(data)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Whether a server works on this cluster.
pub(super) fn is_in_use(data: &Path) -> bool {
    read_pid(&data.join("postmaster.pid")).is_some_and(|pid| is_server(pid, data))
}

fn read_pid(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path)
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
}

/// Whether that process is a server on this cluster: all of PostgreSQL's work in their data
/// directory. Where there is no /proc, a living process is believed to be.
fn is_server(pid: i32, data: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if Path::new("/proc/self/cwd").exists() {
        return std::fs::read_link(process.join("cwd"))
            .is_ok_and(|cwd| data.canonicalize().is_ok_and(|data| cwd == data));
    }
    rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}
