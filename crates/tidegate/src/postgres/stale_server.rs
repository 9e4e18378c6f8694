//! The server of an earlier run that is still there.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::process::{Pid, test_kill_process};

use super::binaries::Binaries;
use super::user::{User, command};
use crate::output;

/// How long the server may take to end.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// After how long it is asked to end: until then its guard may be stopping it.
const GUARDED: Duration = Duration::from_secs(3);

/// Waits until no server works on the cluster: the guard of an earlier run stops its server, and one
/// without a guard is stopped here. Then removes the lock file that a killed server left, because
/// PostgreSQL does not start while another process has the number in it.
///
/// # Errors
/// The server does not end.
pub(super) async fn wait(
    data: &Path,
    binaries: &Binaries,
    user: Option<&User>,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut asked = false;
    while let Some(pid) = locked_by(data) {
        if !is_server(pid, data) {
            let _ = std::fs::remove_file(data.join("postmaster.pid"));
            return Ok(());
        }
        if began.elapsed() > TIMEOUT {
            bail!(
                "the PostgreSQL of an earlier run (pid {pid}) still uses {} and does not stop",
                data.display()
            );
        }
        if !asked && began.elapsed() > GUARDED {
            asked = true;
            output::notice(format_args!(
                "stopping the PostgreSQL of an earlier run (pid {pid}) …"
            ));
            let mut stop = command(&binaries.program("pg_ctl"), user);
            stop.args(["stop", "-m", "fast", "-W", "-D"])
                .arg(data)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let _ = tokio::process::Command::from(stop).status().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Whether a server works on the cluster.
pub(super) fn is_in_use(data: &Path) -> bool {
    locked_by(data).is_some_and(|pid| is_server(pid, data))
}

/// The process in PostgreSQL's lock file. That of a single-user server has a negative number and is
/// left to PostgreSQL.
fn locked_by(data: &Path) -> Option<i32> {
    let lock = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid = lock.lines().next()?.trim().parse().ok()?;
    (pid > 1).then_some(pid)
}

/// Whether the process is a server on the cluster: a server works in its data directory. Without
/// /proc every living process counts as one.
fn is_server(pid: i32, data: &Path) -> bool {
    if Path::new("/proc/self/cwd").exists() {
        return std::fs::read_link(format!("/proc/{pid}/cwd"))
            .is_ok_and(|cwd| data.canonicalize().is_ok_and(|data| cwd == data));
    }
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}
