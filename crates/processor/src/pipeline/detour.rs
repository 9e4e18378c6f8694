//! The way of announcements that Kafka does not take in time: through the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use store::Database;
use store::outbox::Message;

/// Bytes of messages left in one transaction, at least one message.
const BYTES: usize = 4 * 1024 * 1024;

/// Announcements take it from the first that is not acknowledged in time until the outbox is empty:
/// storing waits for nothing but PostgreSQL. Clones are one.
#[derive(Clone)]
pub struct Detour {
    db: Database,
    is_taken: Arc<AtomicBool>,
}

impl Detour {
    /// Through the outbox of that database; not taken yet.
    #[must_use]
    pub fn new(db: &Database) -> Self {
        Self {
            db: db.clone(),
            is_taken: Arc::default(),
        }
    }

    /// Whether announcements take it now.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Relaxed)
    }

    /// The outbox is empty: announcements go straight to Kafka again.
    pub(super) fn end(&self) {
        if self.is_taken.load(Ordering::Relaxed) && self.is_taken.swap(false, Ordering::Relaxed) {
            tracing::info!("what waited in the outbox is announced");
        }
    }

    /// Leaves messages in the outbox, and has others follow. Tries until PostgreSQL takes them.
    pub(super) async fn leave(&self, messages: &[Message], why: &str) {
        if !self.is_taken.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason = why,
                "stored events cannot be announced now; announcements wait in the outbox"
            );
        }
        let mut rest = messages;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |message: &&Message| {
                bytes += message.payload.len();
                bytes <= BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (some, others) = rest.split_at(count);
            self.leave_page(some).await;
            rest = others;
        }
    }

    async fn leave_page(&self, messages: &[Message]) {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .build();
        for pause in pauses {
            match store::write::leave(&self.db, messages).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(error = %error, retry_in_ms = pause.as_millis(), "announcements cannot be left in the outbox yet");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}
