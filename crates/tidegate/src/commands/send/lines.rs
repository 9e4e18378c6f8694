//! Reads lines and makes them events.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use uuid::Uuid;

use crate::sending::checkpoint::Checkpoint;
use crate::sending::event::{Event, Events, FileLine, LINE, identity, of_line};
use crate::sending::report::Report;

/// A source that is read line by line.
pub(super) struct Lines {
    source: BufReader<Box<dyn Read + Send>>,
    length: Option<u64>,
    identity: Uuid,
    at: Checkpoint,
    report: Report,
}

impl Lines {
    /// Opens the source and skips what is before `begin`.
    ///
    /// # Errors
    /// The source cannot be read.
    pub(super) fn open(
        path: &Path,
        name: &str,
        begin: Checkpoint,
        quiet: bool,
    ) -> anyhow::Result<Self> {
        let (source, length): (Box<dyn Read + Send>, _) = if path.as_os_str() == "-" {
            (Box::new(std::io::stdin()), None)
        } else {
            let shown = path.display();
            let mut file = File::open(path).with_context(|| format!("{shown} cannot be read"))?;
            let metadata = file.metadata()?;
            anyhow::ensure!(!metadata.is_dir(), "{shown} is a directory");
            if begin.offset > 0 {
                file.seek(SeekFrom::Start(begin.offset))?;
            }
            let length = metadata.is_file().then_some(metadata.len());
            (Box::new(file), length)
        };
        Ok(Self {
            source: BufReader::with_capacity(256 * 1024, source),
            length,
            identity: identity(name),
            at: begin,
            report: Report::new(length, quiet, begin, None),
        })
    }

    /// The report of the lines that are no events.
    pub(super) fn report(&self) -> Report {
        self.report.clone()
    }

    /// Whether the source is complete; the lines of a pipe may arrive at any time.
    pub(super) fn is_complete(&self) -> bool {
        self.length.is_some()
    }
}

impl Events for Lines {
    fn next(&mut self) -> anyhow::Result<Option<(Event, Checkpoint)>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.source)
                .take(LINE as u64 + 1)
                .read_until(b'\n', &mut line)
                .context("reading broke off")?;
            if read == 0 {
                self.report.passed(self.at);
                return Ok(None);
            }
            self.at.lines += 1;
            self.at.offset += read as u64;
            if read > LINE {
                self.at.offset += self.source.skip_until(b'\n')? as u64;
                self.report.bad(
                    &FileLine {
                        file: None,
                        line: self.at.lines,
                    },
                    "longer than 8 MiB",
                    "",
                );
                continue;
            }
            let text = if self.at.lines == 1 {
                line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line)
            } else {
                &line
            };
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let line = self.at.lines;
            let place = FileLine { file: None, line };
            match of_line(text, self.identity, line) {
                Ok(json) => return Ok(Some((Event { place, json }, self.at))),
                Err(reason) => self.report.bad(&place, &reason, ""),
            }
        }
    }
}
