//! Takes what the log has, up to a limit, and waits for more only as its pace says.

use eventlog::{Chunk, WorkerQueue};
use tokio::time::{Instant, timeout_at};

use super::pace::Pace;

/// How large a batch may grow before it is written.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Records; the last chunk taken may go beyond it.
    pub records: usize,
    /// Payload bytes; the last chunk taken may go beyond it.
    pub bytes: usize,
}

/// Waits for the first chunk, then takes whatever comes until the batch is due or full: an idle log
/// is written at once, under load a batch is what came in since the last. `None` when the queue has
/// ended.
pub async fn gather(
    queue: &mut WorkerQueue,
    limits: BatchLimits,
    pace: &mut Pace,
) -> Option<Vec<Chunk>> {
    let first = queue.recv().await?;
    let (mut records, mut bytes) = size(&first);
    let mut chunks = vec![first];
    let due = pace.due();
    while records < limits.records && bytes < limits.bytes {
        let Some(chunk) = next(queue, due).await else {
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

/// The next chunk that is there, or comes until then.
async fn next(queue: &mut WorkerQueue, due: Instant) -> Option<Chunk> {
    if let Some(chunk) = queue.try_recv() {
        return Some(chunk);
    }
    if due <= Instant::now() {
        return None;
    }
    timeout_at(due, queue.recv()).await.ok().flatten()
}

fn size(chunk: &Chunk) -> (usize, usize) {
    let bytes = chunk
        .records
        .iter()
        .map(|r| r.payload.as_ref().map_or(0, Vec::len))
        .sum();
    (chunk.records.len(), bytes)
}
