//! Reads files one after the other and makes events of their lines or rows.

use std::io::{BufRead as _, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;

use super::csv::{self, Columns, Mapping};
use super::files::{Input, Source};
use super::options::Format;
use crate::sending::checkpoint::Checkpoint;
use crate::sending::event::{Event, Events, FileLine, LINE, of_line, with_id};
use crate::sending::report::Report;

/// The events of all files.
pub(super) struct Records {
    inputs: Vec<Input>,
    mapping: Mapping,
    open: Option<Open>,
    at: Checkpoint,
    /// Bytes of the files before the one at hand.
    before: u64,
    report: Report,
}

struct Open {
    source: Source,
    read: Arc<AtomicU64>,
    /// Of CSV.
    columns: Option<Columns>,
    /// Lines that were settled earlier.
    settled: u64,
}

impl Records {
    /// Those after `begin`.
    pub(super) fn new(
        inputs: Vec<Input>,
        mapping: Mapping,
        begin: Checkpoint,
        report: Report,
    ) -> Self {
        let done = usize::try_from(begin.files).unwrap_or(usize::MAX);
        Self {
            before: inputs.iter().take(done).map(|input| input.bytes).sum(),
            inputs,
            mapping,
            open: None,
            at: begin,
            report,
        }
    }

    /// The file at hand, opened; `None` after the last.
    fn input(&mut self) -> anyhow::Result<Option<Input>> {
        let index = usize::try_from(self.at.files).unwrap_or(usize::MAX);
        let Some(input) = self.inputs.get(index).cloned() else {
            return Ok(None);
        };
        if self.open.is_none() {
            let read = Arc::<AtomicU64>::default();
            let mut open = Open {
                source: input.open(Arc::clone(&read))?,
                read,
                columns: None,
                settled: std::mem::take(&mut self.at.lines),
            };
            if let Some(delimiter) = delimiter(input.format) {
                let header = read_record(&mut open.source, true, &input.name)?;
                let (header, lines) = header.unwrap_or_default();
                self.at.lines += lines;
                let columns = csv::fields(&text(&header)?, delimiter)
                    .and_then(|names| self.mapping.columns(names));
                let columns = columns.map_err(|why| anyhow::anyhow!("{}: {why}", input.name))?;
                open.columns = Some(columns);
            }
            self.open = Some(open);
        }
        Ok(Some(input))
    }

    /// The JSON of a record.
    fn json(&self, input: &Input, record: &[u8], line: u64) -> Result<String, String> {
        let columns = self.open.as_ref().and_then(|open| open.columns.as_ref());
        let (Some(columns), Some(delimiter)) = (columns, delimiter(input.format)) else {
            return of_line(record, input.identity, line);
        };
        let text = text(record).map_err(|error| error.to_string())?;
        let json = columns.object(csv::fields(&text, delimiter)?)?;
        Ok(with_id(&json, input.identity, line, &text))
    }
}

impl Events for Records {
    fn next(&mut self) -> anyhow::Result<Option<(Event, Checkpoint)>> {
        loop {
            let Some(input) = self.input()? else {
                self.report.passed(self.at);
                return Ok(None);
            };
            let Some(open) = &mut self.open else {
                return Ok(None);
            };
            let is_csv = open.columns.is_some();
            let Some((record, lines)) = read_record(&mut open.source, is_csv, &input.name)? else {
                self.open = None;
                self.before += input.bytes;
                self.at = Checkpoint {
                    files: self.at.files + 1,
                    lines: 0,
                    offset: self.before,
                };
                continue;
            };
            let line = self.at.lines + 1;
            self.at.lines += lines;
            self.at.offset = self.before + open.read.load(Ordering::Relaxed);
            if self.at.lines <= open.settled {
                continue;
            }
            let record = match line {
                1 => record.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&record),
                _ => &record,
            };
            let record = record.trim_ascii();
            if record.is_empty() {
                continue;
            }
            let place = FileLine {
                file: Some(Arc::clone(&input.name)),
                line,
            };
            let json = if record.len() > LINE {
                Err("longer than 8 MiB, or a quote is not closed".to_owned())
            } else {
                self.json(&input, record, line)
            };
            match json {
                Ok(json) => return Ok(Some((Event { place, json }, self.at))),
                Err(why) => self
                    .report
                    .bad(&place, &why, &String::from_utf8_lossy(record)),
            }
        }
    }
}

fn delimiter(format: Format) -> Option<char> {
    match format {
        Format::Jsonl => None,
        Format::Csv => Some(','),
        Format::Tsv => Some('\t'),
    }
}

fn text(record: &[u8]) -> anyhow::Result<String> {
    let record = record.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(record);
    let text = std::str::from_utf8(record);
    let text =
        text.map_err(|error| anyhow::anyhow!("no UTF-8 from byte {}", error.valid_up_to() + 1));
    Ok(text?.trim_end_matches(['\r', '\n']).to_owned())
}

/// A line, or of CSV all lines up to where its quotes are closed, and their number; cut off soon after
/// the longest there may be.
fn read_record(
    source: &mut Source,
    is_csv: bool,
    name: &str,
) -> anyhow::Result<Option<(Vec<u8>, u64)>> {
    let broke_off = || format!("{name}: reading broke off");
    let (mut record, mut lines) = (Vec::new(), 0);
    loop {
        let begin = record.len();
        let most = (LINE + 2 - begin.min(LINE)) as u64;
        let read = source
            .take(most)
            .read_until(b'\n', &mut record)
            .with_context(broke_off)?;
        if read == 0 {
            return Ok((lines > 0).then_some((record, lines)));
        }
        lines += 1;
        if record.len() > LINE {
            if record.last() != Some(&b'\n') {
                source.skip_until(b'\n').with_context(broke_off)?;
            }
            return Ok(Some((record, lines)));
        }
        let quotes = record.iter().filter(|byte| **byte == b'"').count();
        if !is_csv || quotes % 2 == 0 {
            return Ok(Some((record, lines)));
        }
    }
}
