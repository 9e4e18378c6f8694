//! Takes what the log has, up to a limit, without waiting for more.

use eventlog::{Chunk, WorkerQueue};

/// How large a batch may grow before it is written.
#[derive(Debug, Clone, Copy)]
pub struct BatchLimits {
    /// Records; the last chunk taken may go beyond it.
    pub records: usize,
    /// Payload bytes; the last chunk taken may go beyond it.
    pub bytes: usize,
}

/// Waits for the first chunk, then takes whatever else is already there: under load a batch is what
/// came in while the last one was written, and an idle log is written at once. `None` when the queue
/// has ended.
pub async fn gather(queue: &mut WorkerQueue, limits: BatchLimits) -> Option<Vec<Chunk>> {
    let first = queue.recv().await?;
    let (mut records, mut bytes) = size(&first);
    let mut chunks = vec![first];
    while records < limits.records && bytes < limits.bytes {
        let Some(chunk) = queue.try_recv() else { break };
        let (more_records, more_bytes) = size(&chunk);
        records += more_records;
        bytes += more_bytes;
        chunks.push(chunk);
    }
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
