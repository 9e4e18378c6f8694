//! Makes a cluster.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};

use super::binaries::Binaries;
use super::directory::Directory;
use super::explain::explain;
use super::user::{User, command};

/// The name of the database and of its user.
pub(super) const NAME: &str = "tidegate";

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
    let password = Password(directory.password_file(user)?);
    let program = binaries.program("initdb");
    let mut initdb = command(&program, user);
    initdb
        .arg("-D")
        .arg(&fresh)
        .args(["-U", NAME, "-A", "scram-sha-256", "--pwfile"])
        .arg(&password.0)
        .args(["--encoding=UTF8", "--locale=C", "--data-checksums"])
        .arg("--no-instructions")
        .args(directory.is_ephemeral().then_some("--no-sync"))
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
    drop(password);
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

/// The file with the password, deleted on drop.
struct Password(PathBuf);

impl Drop for Password {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
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
