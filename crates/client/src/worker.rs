//! What the client's thread does: gathers batches and has them sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::counters::Counters;
use crate::event::Event;
use crate::sender::{SendError, Sender};

/// Hears of a refused event and why.
pub(crate) type Refusal = Box<dyn Fn(&str, &str) + Send>;

/// How often it is looked whether the client was closed while a batch is under way.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) struct Worker {
    pub(crate) sender: Sender,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) batch: usize,
    pub(crate) interval: Duration,
    pub(crate) close_within: Duration,
    pub(crate) on_refused: Refusal,
}

impl Worker {
    /// Sends until the client is closed and nothing is left, or the time for that is over.
    pub(crate) async fn run(mut self) {
        let closed = closed(Arc::clone(&self.counters), self.close_within);
        tokio::pin!(closed);
        let mut flushes = Vec::new();
        loop {
            let batch = self.gather(&mut flushes).await;
            if batch.is_empty() && self.events.is_closed() && self.events.is_empty() {
                return;
            }
            if !batch.is_empty() {
                tokio::select! {
                    () = self.send(&batch) => {}
                    () = &mut closed => return,
                }
            }
            if self.events.is_empty() {
                // All that was tracked before is settled.
                for flush in flushes.drain(..) {
                    // Who waited may have gone.
                    let _: Result<(), ()> = flush.send(());
                }
            }
        }
    }

    /// The next events as JSON: a full batch, or what came within the interval, or what there is when
    /// a caller waits for it.
    async fn gather(&mut self, flushes: &mut Vec<oneshot::Sender<()>>) -> Vec<String> {
        let mut batch = Vec::new();
        let mut due = None;
        while batch.len() < self.batch {
            let overdue = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => {
                        due.get_or_insert_with(|| Instant::now() + self.interval);
                        // Of texts and JSON there is always a text.
                        batch.push(serde_json::to_string(&event).unwrap_or_default());
                    }
                    None => break,
                },
                flush = self.flushes.recv(), if flushes.is_empty() => match flush {
                    Some(flush) => {
                        flushes.push(flush);
                        break;
                    }
                    None => break,
                },
                () = overdue => break,
            }
        }
        while let Ok(flush) = self.flushes.try_recv() {
            flushes.push(flush);
        }
        batch
    }

    async fn send(&self, batch: &[String]) {
        let (accepted, refused) = (&self.counters.accepted, &self.counters.refused);
        match self.sender.send(batch, |_| {}).await {
            Ok(sent) => {
                accepted.fetch_add(sent.accepted, Ordering::Relaxed);
                refused.fetch_add(sent.refused.len() as u64, Ordering::Relaxed);
                for one in &sent.refused {
                    if let Some(event) = batch.get(one.index) {
                        (self.on_refused)(event, &one.reason);
                    }
                }
            }
            Err(SendError::GaveUp(reason) | SendError::Hopeless(reason)) => {
                refused.fetch_add(batch.len() as u64, Ordering::Relaxed);
                batch
                    .iter()
                    .for_each(|event| (self.on_refused)(event, &reason));
            }
        }
    }
}

/// Ends that long after the client was closed.
async fn closed(counters: Arc<Counters>, limit: Duration) {
    while !counters.closing.load(Ordering::Relaxed) {
        sleep(LOOK).await;
    }
    sleep(limit).await;
}
