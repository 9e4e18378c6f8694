//! When the table of the log is vacuumed: by its reader, which knows how much was deleted.

use std::time::{Duration, Instant};

use store::{Database, log};
use tokio::task::JoinHandle;

/// The table is vacuumed after this many rows; after fewer when everything is stored, and after fewer
/// still when nothing more comes. (Giving pages back stops the others for a moment.)
const AFTER: u64 = 50_000;
const EMPTY_AFTER: u64 = 10_000;
const QUIET_AFTER: u64 = 1_000;
const QUIET: Duration = Duration::from_secs(5);

/// Vacuums in the background, one at a time; dropping it ends that.
pub(super) struct Vacuum {
    db: Database,
    rows: u64,
    last_read: Instant,
    running: Option<JoinHandle<()>>,
}

impl Vacuum {
    pub(super) fn new(db: Database) -> Self {
        Self {
            db,
            rows: 0,
            last_read: Instant::now(),
            running: None,
        }
    }

    /// So many rows were read, which will be deleted.
    pub(super) fn read(&mut self, rows: usize) {
        if rows > 0 {
            self.rows += rows as u64;
            self.last_read = Instant::now();
        }
    }

    /// Starts one if enough was read since the last. `empty`: everything read is stored, and there is
    /// nothing more.
    pub(super) fn run(&mut self, empty: bool) {
        let enough = match empty {
            false => AFTER,
            true if self.last_read.elapsed() < QUIET => EMPTY_AFTER,
            true => QUIET_AFTER,
        };
        let running = self
            .running
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if self.rows >= enough && !running {
            self.rows = 0;
            let db = self.db.clone();
            self.running = Some(tokio::spawn(async move {
                if let Err(error) = log::vacuum(&db).await {
                    tracing::warn!(error = %error, "the postgres log could not be vacuumed");
                }
            }));
        }
    }
}

impl Drop for Vacuum {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }
}
