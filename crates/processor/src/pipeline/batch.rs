//! Takes what the log has, up to a limit, and waits for more only as its pace says.

use std::time::Duration;

use eventlog::{Chunk, WorkerQueue};

use crate::pace::Pace;

/// How large a batch may grow before it is written.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Records; the last chunk taken may go beyond it.
    pub records: usize,
    /// Payload bytes; the last chunk taken may go beyond it.
    pub bytes: usize,
}

/// Waits for the first chunk, then takes whatever comes until the batch is due or full: an idle log
/// is written at once, under load a batch is what came in since the last, `interval` before. `None` when
/// the queue has ended.
pub(crate) async fn gather(
    queue: &mut WorkerQueue,
    limits: BatchLimits,
    interval: &(impl Fn() -> Duration + Sync),
    pace: &mut Pace,
) -> Option<Vec<Chunk>> {
    let first = queue.recv().await?;
    let (mut records, mut bytes) = size(&first);
    let mut chunks = vec![first];
    let due = pace.due(interval());
    while records < limits.records && bytes < limits.bytes {
        let Some(chunk) = queue.recv_until(due).await else {
            break;
        };
        let (more_records, more_bytes) = size(&chunk);
        records += more_records;
        bytes += more_bytes;
        chunks.push(chunk);
    }
    pace.took(records);
    Some(chunks)
}

fn size(chunk: &Chunk) -> (usize, usize) {
    let bytes = chunk
        .records
        .iter()
        .map(|r| r.payload.as_ref().map_or(0, Vec::len))
        .sum();
    (chunk.records.len(), bytes)
}
