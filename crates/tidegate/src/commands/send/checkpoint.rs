//! How far a file was sent.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::Options;
use crate::output;

/// How often the file is written at most.
const EVERY: Duration = Duration::from_secs(1);

/// How much of the file's beginning tells it from another.
const HEAD: u64 = 4096;

/// A place between two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Place {
    /// Bytes before it.
    pub(super) offset: u64,
    /// Lines before it.
    pub(super) lines: u64,
}

/// What the checkpoint file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    url: String,
    name: String,
    /// Of the file's first bytes, and how many.
    head: String,
    head_bytes: u64,
    #[serde(flatten)]
    place: Place,
}

/// The checkpoint of one run; without a path it does nothing.
#[derive(Debug)]
pub(super) struct Checkpoint {
    path: Option<PathBuf>,
    source: PathBuf,
    saved: Saved,
    written: Instant,
}

impl Checkpoint {
    /// Reads what an earlier run of the same command left. Another file's is not believed.
    ///
    /// # Errors
    /// A checkpoint that was named is none.
    pub(super) fn of(options: &Options) -> anyhow::Result<Self> {
        let beside = || {
            let mut path = options.file.clone().into_os_string();
            path.push(".checkpoint");
            PathBuf::from(path)
        };
        let is_file = options.file.is_file();
        let path = match &options.checkpoint {
            _ if options.no_checkpoint || !is_file => None,
            Some(path) => Some(path.clone()),
            None => Some(beside()),
        };
        let mut this = Self {
            saved: Saved {
                url: options.instance.shown().to_owned(),
                name: options.identity(),
                head: String::new(),
                head_bytes: 0,
                place: Place::default(),
            },
            path,
            source: options.file.clone(),
            written: Instant::now(),
        };
        let Some(path) = &this.path else {
            return Ok(this);
        };
        let Ok(text) = std::fs::read_to_string(path) else {
            return Ok(this);
        };
        let shown = path.display();
        let saved: Saved = serde_json::from_str(&text).with_context(|| {
            format!("{shown} is no checkpoint of tidegate: delete it, or use --no-checkpoint")
        })?;
        let same = saved.url == this.saved.url
            && saved.name == this.saved.name
            && std::fs::metadata(&options.file)?.len() >= saved.place.offset
            && head(&options.file, saved.head_bytes).is_some_and(|head| head == saved.head);
        if same {
            output::notice(format_args!(
                "going on after line {} ({shown}; --no-checkpoint begins anew)",
                saved.place.lines
            ));
            this.saved = saved;
        } else {
            output::notice(format_args!(
                "{shown} is about another file or address, beginning at the first line"
            ));
        }
        Ok(this)
    }

    /// Where to begin.
    pub(super) fn begin(&self) -> Place {
        self.saved.place
    }

    /// Everything before `place` is settled.
    pub(super) fn note(&mut self, place: Place) {
        self.saved.place = place;
        if self.written.elapsed() >= EVERY {
            self.save();
        }
    }

    /// Writes it, whole or not at all. That it cannot be written is no reason to stop.
    pub(super) fn save(&mut self) {
        let Some(path) = self.path.clone() else {
            return;
        };
        self.written = Instant::now();
        if self.saved.head.is_empty() {
            let bytes = self.saved.place.offset.min(HEAD);
            self.saved.head_bytes = bytes;
            self.saved.head = head(&self.source, bytes).unwrap_or_default();
        }
        let partial = path.with_extension("checkpoint.partial");
        let outcome = serde_json::to_vec_pretty(&self.saved)
            .map_err(std::io::Error::other)
            .and_then(|text| std::fs::write(&partial, text))
            .and_then(|()| std::fs::rename(&partial, &path));
        if let Err(error) = outcome {
            output::notice(format_args!(
                "no checkpoint: {} cannot be written: {error}",
                path.display()
            ));
            self.path = None;
        }
    }

    /// All is sent.
    pub(super) fn remove(self) {
        if let Some(path) = self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A sum of the first bytes of a file; `None` if it has fewer.
fn head(path: &Path, bytes: u64) -> Option<String> {
    let mut head = Vec::new();
    let read = File::open(path)
        .ok()?
        .take(bytes)
        .read_to_end(&mut head)
        .ok()?;
    (read as u64 == bytes)
        .then(|| uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, &head).to_string())
}
