//! The file that keeps what was not accepted.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::event::FileLine;

/// JSON lines of what was not accepted, each with its place and the reason; made with the first of
/// them. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Rejects {
    path: PathBuf,
    file: Arc<Mutex<Option<File>>>,
}

impl Rejects {
    /// Keeps them at `path`. What an earlier run left there stays if this one `resumes` it.
    ///
    /// # Errors
    /// The old file cannot be removed.
    pub(crate) fn new(path: &Path, resumes: bool) -> std::io::Result<Self> {
        if !resumes && path.exists() {
            std::fs::remove_file(path)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file: Arc::default(),
        })
    }

    /// Adds one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn keep(&self, place: &FileLine, reason: &str, text: &str) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *file {
            Some(file) => file,
            none => none.insert(File::options().create(true).append(true).open(&self.path)?),
        };
        let line = json!({"file": place.file, "line": place.line, "error": reason, "text": text});
        writeln!(file, "{line}")
    }
}

impl fmt::Display for Rejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
