//! The user that PostgreSQL runs as, which refuses to be root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The unprivileged user that root hands PostgreSQL to.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// `None` where this process is not root and is the user itself.
    ///
    /// # Errors
    /// The user of `TIDEGATE_PG_USER` is unknown, or no known one is there.
    pub(crate) fn unprivileged() -> anyhow::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        if let Some(name) = std::env::var("TIDEGATE_PG_USER")
            .ok()
            .filter(|n| !n.is_empty())
        {
            return Self::named(&name)
                .with_context(|| format!("TIDEGATE_PG_USER names {name:?}"))
                .map(Some);
        }
        for name in ["postgres", "nobody"] {
            if let Ok(user) = Self::named(name) {
                return Ok(Some(user));
            }
        }
        bail!(
            "PostgreSQL refuses to run as root, and there is no user postgres or nobody: name one \
             with TIDEGATE_PG_USER, or start `tidegate dev` as another user"
        );
    }

    fn named(name: &str) -> anyhow::Result<Self> {
        let id = |option: &str| -> anyhow::Result<u32> {
            let output = Command::new("id").args([option, "--", name]).output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            text.trim()
                .parse()
                .with_context(|| format!("there is no user {name}"))
        };
        let user = Self {
            name: name.to_owned(),
            uid: id("-u")?,
            gid: id("-g")?,
        };
        if user.uid == 0 {
            bail!("{name} is root");
        }
        Ok(user)
    }
}

/// A command that runs as the user, without the `PG…` variables of this process.
pub(crate) fn command(program: &Path, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
        .current_dir("/")
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    if let Some(user) = user {
        // Drops root's supplementary groups as well.
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Whether the user can enter a directory.
pub(crate) fn reaches(user: &User, directory: &Path) -> bool {
    command(Path::new("sh"), Some(user))
        .args(["-c", "cd \"$1\"", "sh"])
        .arg(directory)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
