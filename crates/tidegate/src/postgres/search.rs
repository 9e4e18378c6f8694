//! Finds the PostgreSQL for a data directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::binaries::{Binaries, OLDEST};
use super::directory::Directory;
use super::fetch;

/// The binaries for a data directory: those in `directory` if it is given, else those of the version
/// that made the data, else the newest on the machine, else fetched ones.
///
/// # Errors
/// There are none, and none can be fetched; the sentence names what to install.
pub(super) async fn find(directory: Option<&PathBuf>, data: &Path) -> anyhow::Result<Binaries> {
    let wanted = version_of(data)?;
    if let Some(old) = wanted.filter(|wanted| *wanted < OLDEST) {
        bail!(
            "the data in {} was made by PostgreSQL {old}, and {OLDEST} or newer is needed: \
             move it over with pg_dump or pg_upgrade, or name another directory with --data-dir",
            data.display()
        );
    }
    if let Some(directory) = directory {
        let binaries = Binaries::at(directory).with_context(|| {
            format!(
                "TIDEGATE_PG_BIN names {}, where initdb and postgres are not to be found",
                directory.display()
            )
        })?;
        return fitting(&[binaries], wanted).map_err(|found| missing(found, wanted, data, None));
    }
    let home = Directory::home();
    let mut found = Binaries::installed();
    found.extend(home.as_deref().ok().and_then(fetch::fetched));
    let newest = match fitting(&found, wanted) {
        Ok(binaries) => return Ok(binaries),
        Err(newest) => newest,
    };
    if wanted.is_some_and(|wanted| wanted != fetch::MAJOR) {
        return Err(missing(newest, wanted, data, None));
    }
    let fetched = match home {
        Ok(home) => fetch::fetch(&home).await,
        Err(error) => Err(error),
    };
    fetched.map_err(|error| missing(newest, wanted, data, Some(&error)))
}

/// The version that made the cluster; `None` where there is no cluster yet.
fn version_of(data: &Path) -> anyhow::Result<Option<u32>> {
    if !data.exists() {
        return Ok(None);
    }
    let version = std::fs::read_to_string(data.join("PG_VERSION"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match version {
        Some(version) => Ok(Some(version)),
        None => bail!(
            "{} is not a data directory of PostgreSQL; nothing was changed in it",
            data.display()
        ),
    }
}

/// The newest binaries that can run the cluster: those of the wanted version, if there is one. Else
/// the newest of all.
fn fitting(found: &[Binaries], wanted: Option<u32>) -> Result<Binaries, Option<&Binaries>> {
    let fits = |one: &&Binaries| wanted.map_or(one.major >= OLDEST, |wanted| one.major == wanted);
    let newest = found.iter().max_by_key(|one| one.major);
    found
        .iter()
        .filter(fits)
        .max_by_key(|one| one.major)
        .cloned()
        .ok_or(newest)
}

/// The error where no binaries fit and none could be fetched.
fn missing(
    newest: Option<&Binaries>,
    wanted: Option<u32>,
    data: &Path,
    error: Option<&anyhow::Error>,
) -> anyhow::Error {
    let has = newest.map_or_else(
        || "no PostgreSQL".to_owned(),
        |newest| format!("PostgreSQL {}", newest.version),
    );
    let fetched =
        |what: &str| error.map_or_else(String::new, |error| format!(" and {what} ({error:#})"));
    match wanted {
        Some(wanted) => anyhow::anyhow!(
            "the data in {} was made by PostgreSQL {wanted}, but this machine has {has}{}: install \
             PostgreSQL {wanted}, or name its programs with TIDEGATE_PG_BIN, or another directory \
             with --data-dir",
            data.display(),
            fetched(&format!("{wanted} could not be fetched"))
        ),
        None => anyhow::anyhow!(
            "PostgreSQL {OLDEST} or newer is needed, this machine has {has}{}: install it (Debian, \
             Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: \
             brew install postgresql), or name its directory with TIDEGATE_PG_BIN",
            fetched("none could be fetched")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(major: u32) -> Binaries {
        Binaries {
            directory: format!("/pg/{major}").into(),
            major,
            version: format!("{major}.1"),
            has_lz4: true,
        }
    }

    #[test]
    fn a_cluster_keeps_its_version_and_a_new_one_gets_the_newest() {
        let found = [binaries(15), binaries(17), binaries(14)];
        assert_eq!(fitting(&found, None).unwrap().major, 17);
        assert_eq!(fitting(&found, Some(15)).unwrap().major, 15);
        assert_eq!(fitting(&found, Some(16)).unwrap_err().unwrap().major, 17);
        assert_eq!(fitting(&found[2..], None).unwrap_err().unwrap().major, 14);
    }

    #[test]
    fn the_error_says_what_there_is_and_what_to_install() {
        let (old, new, data) = (binaries(14), binaries(17), Path::new("/data"));
        let says = |newest, wanted, error: Option<&anyhow::Error>, words: &[&str]| {
            let text = missing(newest, wanted, data, error).to_string();
            for words in words {
                assert!(text.contains(words), "{words}: {text}");
            }
        };
        says(
            Some(&new),
            Some(16),
            None,
            &["made by PostgreSQL 16", "has PostgreSQL 17.1:"],
        );
        let reason = anyhow::anyhow!("no network");
        let offline = Some(&reason);
        says(
            Some(&new),
            Some(18),
            offline,
            &["made by PostgreSQL 18", "17.1", "no network"],
        );
        says(
            None,
            None,
            offline,
            &["has no PostgreSQL and none could be fetched (no network)"],
        );
        says(
            Some(&old),
            None,
            offline,
            &["15 or newer", "14.1", "apt-get install postgresql"],
        );
    }
}
