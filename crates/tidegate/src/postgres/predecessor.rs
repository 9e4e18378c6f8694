//! The server of an earlier run that did not end in good order.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};

use super::binaries::Binaries;
use super::user::{User, command};
use crate::output;

/// How long it may take to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// After how long it is asked to end; and, if it is but a part that was left, made to.
const ASKED: Duration = Duration::from_secs(3);
const MADE: Duration = Duration::from_secs(10);

/// After a `kill -9` of ours its guard is stopping the server; one that nobody guards is stopped
/// here. A stale `postmaster.pid` must not make PostgreSQL believe in a server that is gone. One
/// that was killed may leave a process behind which is too busy to notice (a long query): no other
/// server can start before that has ended.
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
            break;
        }
        if began.elapsed() > PATIENCE {
            bail!(
                "the PostgreSQL of an earlier run (pid {pid}) still uses {} and does not stop",
                data.display()
            );
        }
        if !stopped && began.elapsed() > ASKED {
            stopped = true;
            output::notice(format_args!(
                "stopping the PostgreSQL of an earlier run (pid {pid}) …"
            ));
            let program = binaries.program("pg_ctl");
            let mut stop = command(&program, user);
            stop.args(["stop", "-m", "fast", "-W", "-D"])
                .arg(data)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let _ = tokio::process::Command::from(stop).status().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Somebody's single-user server has a negative number; PostgreSQL says what is to be said of it.
    if pid_file.exists() && read_pid(&pid_file).is_none() {
        return Ok(());
    }
    end_orphans(data).await;
    let _ = std::fs::remove_file(&pid_file);
    Ok(())
}

/// Waits for what a killed server left on this cluster, and ends it when it does not end by itself.
async fn end_orphans(data: &Path) {
    let began = Instant::now();
    let mut asked = false;
    loop {
        let left = orphans(data);
        let waited = began.elapsed();
        if left.is_empty() || waited > PATIENCE {
            return;
        }
        let signal = match (waited > MADE, waited > ASKED) {
            (true, _) => Some(Signal::KILL),
            (_, true) if !asked => {
                asked = true;
                output::notice("ending what is left of a PostgreSQL that was killed …");
                Some(Signal::TERM)
            }
            _ => None,
        };
        if let Some(signal) = signal {
            for pid in left {
                let _ = kill_process(pid, signal);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// PostgreSQL's processes on this cluster, and nobody else's who is in that directory. To be asked
/// when its server is gone; empty where there is no /proc.
fn orphans(data: &Path) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    let is_postgres = |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| {
            let name = program.file_name().unwrap_or_default();
            // The system adds " (deleted)" to that of a program which was replaced meanwhile.
            matches!(name.to_str(), Some("postgres" | "postgres (deleted)"))
        })
    };
    processes
        .flatten()
        .filter_map(number)
        .filter(|pid| *pid > 1 && is_postgres(pid) && is_server(*pid, data))
        .filter_map(Pid::from_raw)
        .collect()
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
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}
