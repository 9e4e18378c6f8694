//! Makes one sentence of what PostgreSQL reports in many lines.

use super::directory::Directory;

/// What PostgreSQL reports when the disk is full. A write that was cut short has no reason of the
/// system's.
const FULL: [&str; 3] = [
    "No space left on device",
    "Disk quota exceeded",
    "wrote only",
];

/// An error that begins with `what` and names the cause found in `report`.
pub(super) fn explain(what: &str, report: &str, directory: &Directory) -> anyhow::Error {
    let path = directory.path().display();
    if FULL.iter().any(|words| report.contains(words)) {
        return anyhow::anyhow!("the disk of {path} is full: {what}");
    }
    let lines = || report.lines().filter(|line| !line.trim().is_empty());
    let cause = lines()
        .rfind(|line| line.contains("FATAL") || line.contains("error:"))
        .or_else(|| lines().next_back())
        .unwrap_or("there is no message");
    let also = if directory.is_ephemeral() || !directory.log().exists() {
        String::new()
    } else {
        format!(" (see also {path}/postgres.log)")
    };
    anyhow::anyhow!("{what}: {}{also}", cause.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_and_other_errors_are_quoted() {
        let path = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4()));
        let directory = Directory::open(&path, None).unwrap();
        let says = |report: &str| explain("initdb failed", report, &directory).to_string();
        for report in [
            "LOG: x\nFATAL: could not write to file \"pg_wal/1\": No space left on device\n",
            "FATAL: could not extend file \"base/1\": wrote only 4096 of 8192 bytes at block 19",
        ] {
            let full = format!("the disk of {} is full", path.display());
            assert!(says(report).starts_with(&full), "{}", says(report));
        }
        let other = says("LOG: starting\nFATAL:  data directory has wrong ownership\nHINT: x\n");
        assert!(
            other.contains("initdb failed: FATAL:  data directory has"),
            "{other}"
        );
        drop(directory);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
