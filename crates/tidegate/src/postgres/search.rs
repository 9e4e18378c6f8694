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
        return fitting(&[binaries], wanted, data);
    }
    let home = Directory::home().ok();
    let mut found = Binaries::installed();
    found.extend(home.as_deref().and_then(fetch::fetched));
    let fits = |one: &Binaries| wanted.map_or(one.major >= OLDEST, |it| one.major == it);
    if found.iter().any(fits) || wanted.is_some_and(|it| it != fetch::MAJOR) {
        return fitting(&found, wanted, data);
    }
    let home = home.context("HOME is not set")?;
    let fetched = fetch::fetch(&home).await;
    let fetched = fetched.map_err(|error| unavailable(&found, wanted, data, &error))?;
    fitting(&[fetched], wanted, data)
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

fn fitting(found: &[Binaries], wanted: Option<u32>, data: &Path) -> anyhow::Result<Binaries> {
    let newest = found.iter().max_by_key(|one| one.major);
    let Some(wanted) = wanted else {
        return match newest {
            Some(newest) if newest.major >= OLDEST => Ok(newest.clone()),
            Some(old) => bail!(
                "PostgreSQL {OLDEST} or newer is needed, {} has {}",
                old.directory.display(),
                old.version
            ),
            None => bail!("there is no PostgreSQL on this machine"),
        };
    };
    if let Some(same) = found.iter().find(|one| one.major == wanted) {
        return Ok(same.clone());
    }
    Err(another_version(found, wanted, data, ""))
}

/// The error where nothing on the machine fits and nothing could be fetched.
fn unavailable(
    found: &[Binaries],
    wanted: Option<u32>,
    data: &Path,
    error: &anyhow::Error,
) -> anyhow::Error {
    match wanted {
        Some(wanted) => {
            let but = format!(" and {wanted} could not be fetched ({error:#})");
            another_version(found, wanted, data, &but)
        }
        None => anyhow::anyhow!(
            "there is no PostgreSQL {OLDEST} or newer on this machine, and none could be fetched \
             ({error:#}): install it (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf \
             install postgresql-server; macOS: brew install postgresql), or name its directory \
             with TIDEGATE_PG_BIN"
        ),
    }
}

/// The error where the version that made a cluster is missing: no other can run it.
fn another_version(found: &[Binaries], wanted: u32, data: &Path, more: &str) -> anyhow::Error {
    let newest = found.iter().max_by_key(|one| one.major);
    let has = newest.map_or_else(
        || "no PostgreSQL".to_owned(),
        |newest| format!("PostgreSQL {}", newest.version),
    );
    anyhow::anyhow!(
        "the data in {} was made by PostgreSQL {wanted}, but this machine has {has}{more}: install \
         PostgreSQL {wanted}, or name its programs with TIDEGATE_PG_BIN, or another directory \
         with --data-dir",
        data.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(major: u32) -> Binaries {
        Binaries {
            directory: format!("/pg/{major}").into(),
            major,
            version: format!("{major}.1"),
        }
    }

    #[test]
    fn a_cluster_keeps_its_version_and_a_new_one_gets_the_newest() {
        let found = [binaries(15), binaries(17), binaries(14)];
        let data = Path::new("/data");
        assert_eq!(fitting(&found, None, data).unwrap().major, 17);
        assert_eq!(fitting(&found, Some(15), data).unwrap().major, 15);
        let error = fitting(&found, Some(16), data).unwrap_err().to_string();
        assert!(
            error.contains("PostgreSQL 16") && error.contains("17.1"),
            "{error}"
        );
        let reason = anyhow::anyhow!("no network");
        let error = unavailable(&found, Some(18), data, &reason).to_string();
        for words in ["made by PostgreSQL 18", "has PostgreSQL 17.1", "no network"] {
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(!error.contains("there is no PostgreSQL"), "{error}");
        let error = unavailable(&[binaries(14)], None, data, &reason).to_string();
        assert!(error.contains("apt-get install postgresql"), "{error}");
        let error = fitting(&[binaries(14)], None, data)
            .unwrap_err()
            .to_string();
        assert!(error.contains("15 or newer"), "{error}");
    }
}
