//! Gathers events into batches without waiting for events that are not there yet.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::checkpoint::Checkpoint;
use super::event::{Event, Events};

/// The size of one request, in bytes, at most: below the service's 4 MiB.
const REQUEST: usize = 3 * 1024 * 1024;

/// How long the first line from a pipe waits for others.
const LINGER: Duration = Duration::from_millis(200);

/// How many events are read ahead: few, because each may have megabytes.
const AHEAD: usize = 64;

/// The events of consecutive lines.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    /// The end of the last line.
    pub(crate) end: Checkpoint,
}

type Read = anyhow::Result<(Event, Checkpoint)>;

/// Gathers the events that a thread reads: while a pipe is silent, what was read is sent and Ctrl-C
/// is handled.
pub(crate) struct Batches {
    read: mpsc::Receiver<Read>,
    most: usize,
    linger: Option<Duration>,
    filling: Vec<Event>,
    bytes: usize,
    end: Checkpoint,
    /// When the batch is sent, full or not.
    due: Option<Instant>,
    /// Read, but did not fit into the last batch.
    left_over: Option<Read>,
}

impl Batches {
    /// Begins to read; a batch has at most `most` events. `linger`: more may come at any time, and a
    /// batch does not wait for it.
    pub(crate) fn new(mut events: impl Events, most: usize, linger: bool) -> Self {
        let (sender, read) = mpsc::channel(AHEAD);
        let linger = linger.then_some(LINGER);
        // Not a task: the end of the runtime would wait for its read.
        std::thread::spawn(move || {
            while let Some(one) = events.next().transpose() {
                let broke_off = one.is_err();
                if sender.blocking_send(one).is_err() || broke_off {
                    break;
                }
            }
        });
        Self {
            read,
            most,
            linger,
            filling: Vec::new(),
            bytes: 0,
            end: Checkpoint::default(),
            due: None,
            left_over: None,
        }
    }

    /// The next batch; nothing is lost when this is dropped before it is ready.
    ///
    /// # Errors
    /// The source cannot be read further.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        while self.filling.len() < self.most {
            let one = match (self.left_over.take(), self.due) {
                (Some(one), _) => Some(one),
                (None, None) => self.read.recv().await,
                (None, Some(due)) => match timeout_at(due, self.read.recv()).await {
                    Ok(one) => one,
                    Err(_) => break,
                },
            };
            match one {
                None => break,
                Some(Ok((event, end))) if self.fits(&event) => {
                    if self.filling.is_empty() {
                        self.due = self.linger.map(|linger| Instant::now() + linger);
                    }
                    self.bytes += event.json.len() + 1;
                    self.end = end;
                    self.filling.push(event);
                }
                Some(Err(error)) if self.filling.is_empty() => return Err(error),
                Some(one) => {
                    self.left_over = Some(one);
                    break;
                }
            }
        }
        self.due = None;
        self.bytes = 0;
        let events = std::mem::take(&mut self.filling);
        let end = self.end;
        Ok((!events.is_empty()).then_some(Batch { events, end }))
    }

    fn fits(&self, event: &Event) -> bool {
        self.filling.is_empty() || self.bytes + event.json.len() < REQUEST
    }
}
