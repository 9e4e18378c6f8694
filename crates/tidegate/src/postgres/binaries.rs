//! Finds PostgreSQL on this machine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version that the schema and the queries work with.
pub(crate) const OLDEST: u32 = 15;

/// The programs that are needed.
const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// The directories of the usual packages; `*` stands for any text.
const USUAL: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/lib/postgresql*/bin",
];

/// A PostgreSQL that can make and run a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    /// The directory of the programs.
    pub(crate) directory: PathBuf,
    /// The major version.
    pub(crate) major: u32,
    /// The full version.
    pub(crate) version: String,
    /// Whether it can compress its log with lz4.
    pub(crate) has_lz4: bool,
}

impl Binaries {
    /// The binaries in a directory, if all are there and run.
    pub(crate) fn at(directory: &Path) -> Option<Self> {
        if !PROGRAMS.iter().all(|name| directory.join(name).is_file()) {
            return None;
        }
        let output = Command::new(directory.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let (major, version) = version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self {
            directory: directory.to_owned(),
            major,
            version,
            has_lz4: has_lz4(directory),
        })
    }

    /// Every PostgreSQL that is installed, the newest first.
    pub(crate) fn installed() -> Vec<Self> {
        let mut directories: Vec<PathBuf> = Vec::new();
        directories.extend(bindir());
        if let Some(path) = std::env::var_os("PATH") {
            directories.extend(std::env::split_paths(&path));
        }
        directories.extend(USUAL.iter().flat_map(|pattern| expand(pattern)));
        let mut found: Vec<Self> = Vec::new();
        for directory in directories {
            let directory = directory.canonicalize().unwrap_or(directory);
            if !found.iter().any(|known| known.directory == directory) {
                found.extend(Self::at(&directory));
            }
        }
        found.sort_by_key(|one| std::cmp::Reverse(one.major));
        found
    }

    /// The path of a program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Asks the server whether it takes the setting; it looks at no data for that.
fn has_lz4(directory: &Path) -> bool {
    Command::new(directory.join("postgres"))
        .args(["-C", "wal_compression", "-c", "wal_compression=lz4"])
        .args(["-c", "config_file=/dev/null", "-D", "/"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The directory that `pg_config` names.
fn bindir() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The major and the full version in `postgres (PostgreSQL) 15.18 (Debian …)`.
fn version(text: &str) -> Option<(u32, String)> {
    let text = text.split("(PostgreSQL)").nth(1)?;
    let whole = text.split_whitespace().next()?;
    let digits: String = whole.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, whole.to_owned()))
}

/// The directories that match a pattern with one `*` in one segment.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(after.trim_start_matches('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let debian = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(version(debian), Some((15, "15.18".to_owned())));
        let beta = "postgres (PostgreSQL) 19beta1\n";
        assert_eq!(version(beta), Some((19, "19beta1".to_owned())));
        assert_eq!(version("bash: no such file"), None);
    }

    #[test]
    fn patterns_are_expanded() {
        let directory = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4()));
        for name in ["pgsql-16/bin", "pgsql-17/bin", "other/bin"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        let mut found = expand(&format!("{}/pgsql-*/bin", directory.display()));
        found.sort();
        assert_eq!(
            found,
            ["pgsql-16/bin", "pgsql-17/bin"].map(|name| directory.join(name))
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
