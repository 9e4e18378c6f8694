//! The file that records how far a source was sent.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use crate::output;

/// The shortest time between two writes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many of the source's first bytes distinguish it from another, at most.
const HEAD_BYTES: u64 = 4096;

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    url: String,
    name: String,
    /// A hash of the source's first bytes, and how many they are.
    head: String,
    head_bytes: u64,
    #[serde(flatten)]
    checkpoint: Checkpoint,
}

/// The checkpoint file of one run; without a path it does nothing.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    path: Option<PathBuf>,
    source: Option<PathBuf>,
    content: Content,
    written: Instant,
}

impl CheckpointFile {
    /// Reads what an earlier run of the same command left; the file of another source or address
    /// is ignored. `name` tells sources apart, and the first bytes of `source` if it is one file.
    ///
    /// # Errors
    /// The file is not a checkpoint, or the source cannot be read.
    pub(crate) fn open(
        path: Option<PathBuf>,
        source: Option<&Path>,
        url: &str,
        name: String,
    ) -> anyhow::Result<Self> {
        let mut content = Content {
            url: url.to_owned(),
            name,
            ..Content::default()
        };
        if let Some(path) = &path
            && let Ok(text) = std::fs::read_to_string(path)
        {
            let shown = path.display();
            let saved: Content = serde_json::from_str(&text).with_context(|| {
                format!("{shown} is no checkpoint of tidegate: delete it, or use --no-checkpoint")
            })?;
            if saved.url == content.url
                && saved.name == content.name
                && source.is_none_or(|source| begins_like(source, &saved))
            {
                let files = match saved.checkpoint.files {
                    0 => String::new(),
                    files => format!(" of file {}", files + 1),
                };
                output::notice(format_args!(
                    "going on after line {}{files} ({shown}; --no-checkpoint begins at the first line)",
                    saved.checkpoint.lines
                ));
                content = saved;
            } else {
                output::notice(format_args!(
                    "{shown} is about another file or address, beginning at the first line"
                ));
            }
        }
        Ok(Self {
            path,
            source: source.map(Path::to_owned),
            content,
            written: Instant::now(),
        })
    }

    /// Where this run begins.
    pub(crate) fn begin(&self) -> Checkpoint {
        self.content.checkpoint
    }

    /// Records that everything before `checkpoint` is settled.
    pub(crate) fn advance(&mut self, checkpoint: Checkpoint) {
        self.content.checkpoint = checkpoint;
        if self.written.elapsed() >= INTERVAL {
            self.save();
        }
    }

    /// Replaces the file. A failure is reported once and does not stop the run.
    pub(crate) fn save(&mut self) {
        let Some(path) = &self.path else {
            return;
        };
        self.written = Instant::now();
        if let Some(source) = &self.source
            && self.content.head.is_empty()
        {
            let bytes = self.content.checkpoint.offset.min(HEAD_BYTES);
            self.content.head_bytes = bytes;
            self.content.head = head(source, bytes).unwrap_or_default();
        }
        let partial = path.with_extension("checkpoint.partial");
        let outcome = serde_json::to_vec_pretty(&self.content)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(&partial, text))
            .and_then(|()| std::fs::rename(&partial, path));
        if let Err(error) = outcome {
            output::notice(format_args!(
                "no checkpoint: {} cannot be written: {error}",
                path.display()
            ));
            self.path = None;
        }
    }

    /// Deletes the file, once all is sent.
    pub(crate) fn remove(self) {
        if let Some(path) = self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether a file is the one that was read so far.
fn begins_like(source: &Path, saved: &Content) -> bool {
    let is_long =
        std::fs::metadata(source).is_ok_and(|metadata| metadata.len() >= saved.checkpoint.offset);
    is_long && head(source, saved.head_bytes).is_some_and(|head| head == saved.head)
}

/// A hash of the first bytes of a file; `None` if it has fewer.
fn head(path: &Path, bytes: u64) -> Option<String> {
    let mut head = Vec::new();
    let mut start = File::open(path).ok()?.take(bytes);
    let read = start.read_to_end(&mut head).ok()?;
    (read as u64 == bytes)
        .then(|| uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &head).to_string())
}
