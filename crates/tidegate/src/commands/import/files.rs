//! The files to read, and how they are opened.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use uuid::Uuid;

use super::options::Format;
use crate::sending::event::identity;

/// What the names of files end in that are read of a directory, but for `.gz`.
const READ: [&str; 5] = ["json", "jsonl", "ndjson", "csv", "tsv"];

/// A file to read.
#[derive(Debug, Clone)]
pub(super) struct Input {
    path: PathBuf,
    /// As it is shown.
    pub(super) name: Arc<str>,
    /// What stands for it in the ids of its lines.
    pub(super) identity: Uuid,
    pub(super) format: Format,
    /// Its size on disk.
    pub(super) bytes: u64,
    modified: u128,
}

/// An opened file, unpacked where it is gzipped.
pub(super) type Source = BufReader<Box<dyn Read + Send>>;

/// The files at these paths, those of directories in the order of their names.
///
/// # Errors
/// A path cannot be read, or there are no files.
pub(super) fn list(
    paths: &[PathBuf],
    name: Option<&str>,
    format: Option<Format>,
) -> anyhow::Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in paths {
        let shown = path.display();
        let whole = path
            .canonicalize()
            .with_context(|| format!("{shown} cannot be read"))?;
        let mut files = Vec::new();
        if whole.is_dir() {
            below(&whole, &mut files).with_context(|| format!("{shown} cannot be read"))?;
        } else {
            files.push(whole.clone());
        }
        for file in files {
            let metadata = file.metadata()?;
            let modified = metadata.modified().ok();
            let modified = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            // Relative to the path that was given.
            let rest = file.strip_prefix(&whole).unwrap_or(Path::new(""));
            let said = if rest.as_os_str().is_empty() {
                path.clone()
            } else {
                path.join(rest)
            };
            let stands = match name {
                Some(name) => format!("{name} {}", rest.display()),
                None => file.display().to_string(),
            };
            inputs.push(Input {
                name: said.display().to_string().into(),
                identity: identity(&stands),
                format: format.unwrap_or_else(|| by_name(&file)),
                bytes: metadata.len(),
                modified: modified.unwrap_or_default().as_nanos(),
                path: file,
            });
        }
    }
    anyhow::ensure!(
        !inputs.is_empty(),
        "no files to import: of a directory those are read whose names end in .gz or .{}",
        READ.join(", .")
    );
    Ok(inputs)
}

/// What changes when a file does, or one comes or goes.
pub(super) fn fingerprint(inputs: &[Input]) -> Uuid {
    let each = inputs.iter().map(|input| {
        let Input {
            identity,
            bytes,
            modified,
            format,
            ..
        } = input;
        format!("{identity} {bytes} {modified} {format:?}\n")
    });
    identity(&each.collect::<String>())
}

fn below(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    entries.sort();
    for entry in entries {
        let hidden = entry
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if entry.is_dir() {
            below(&entry, files)?;
        } else if extension(&entry).is_some_and(|end| end == "gz" || READ.contains(&end.as_str())) {
            files.push(entry);
        }
    }
    Ok(())
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_lowercase())
}

fn by_name(path: &Path) -> Format {
    let end = match extension(path).as_deref() {
        Some("gz") => extension(&path.with_extension("")),
        _ => extension(path),
    };
    match end.as_deref() {
        Some("csv") => Format::Csv,
        Some("tsv") => Format::Tsv,
        _ => Format::Jsonl,
    }
}

impl Input {
    /// Opens it; `read` counts the bytes that are read from the disk.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(&self, read: Arc<AtomicU64>) -> anyhow::Result<Source> {
        let cannot = || format!("{} cannot be read", self.name);
        let mut file = File::open(&self.path).with_context(cannot)?;
        // By its first bytes: not every archive says so by the name.
        let mut magic = Vec::new();
        (&mut file)
            .take(2)
            .read_to_end(&mut magic)
            .with_context(cannot)?;
        let is_packed = magic == [0x1f, 0x8b];
        let counted = Counted {
            inner: io::Cursor::new(magic).chain(BufReader::new(file)),
            read,
        };
        let source: Box<dyn Read + Send> = if is_packed {
            Box::new(MultiGzDecoder::new(counted))
        } else {
            Box::new(counted)
        };
        Ok(BufReader::with_capacity(256 * 1024, source))
    }
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
