//! Makes a cluster.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};

use super::binaries::Binaries;
use super::directory::Directory;
use super::explain::explain;
use super::user::{User, command};

/// The user of the database.
pub(super) const USER: &str = "tidegate";

/// The database: the one that every cluster has.
pub(super) const DATABASE: &str = "postgres";

/// The script that runs initdb with the password in its environment, which only the user can read.
const SCRIPT: &str =
    r#"program=$1; shift; printf %s "$PASSWORD" | "$program" --pwfile=/dev/stdin "$@""#;

/// Makes the cluster beside its final place and moves it there, so that it is complete or absent.
/// Dropping the future kills initdb; the next start makes the cluster again.
///
/// # Errors
/// One sentence with the cause.
pub(super) async fn make(
    directory: &Directory,
    binaries: &Binaries,
    user: Option<&User>,
) -> anyhow::Result<()> {
    let fresh = directory
        .fresh("postgres.new", user)
        .with_context(|| format!("no cluster can be made in {}", directory.path().display()))?;
    let program = binaries.program("initdb");
    let mut initdb = command(Path::new("sh"), user);
    initdb
        .args(["-c", SCRIPT, "initdb"])
        .arg(&program)
        .arg("-D")
        .arg(&fresh)
        .args(["-U", USER, "-A", "scram-sha-256"])
        .args(["--encoding=UTF8", "--locale=C", "--data-checksums"])
        .arg("--no-instructions")
        .args(directory.is_ephemeral().then_some("--no-sync"))
        .env("PASSWORD", directory.password()?)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C goes to this process only, which kills the group.
        .process_group(0);
    let child = tokio::process::Command::from(initdb)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be run", program.display()))?;
    let group = Group(child.id());
    let output = child.wait_with_output().await?;
    group.has_ended();
    if !output.status.success() {
        let _ = std::fs::remove_dir_all(&fresh);
        let report = String::from_utf8_lossy(&output.stderr);
        return Err(explain("initdb failed", &report, directory));
    }
    let made = (|| {
        let mut settings = File::options()
            .append(true)
            .open(fresh.join("postgresql.conf"))?;
        settings.write_all(b"\ninclude_if_exists = 'tidegate.conf'\n")?;
        settings.sync_all()?;
        std::fs::rename(&fresh, directory.cluster())
    })();
    if let Err(error) = made {
        let _ = std::fs::remove_dir_all(&fresh);
        return Err(explain("no cluster", &error.to_string(), directory));
    }
    Ok(())
}

/// The process group of initdb and the servers it runs, killed on drop unless it has ended.
struct Group(Option<u32>);

impl Group {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|pid| i32::try_from(pid).ok());
        if let Some(leader) = leader.and_then(Pid::from_raw) {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
