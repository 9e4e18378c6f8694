//! Live channels within one process, under the same rules as those in Redis.

mod state;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::channels::{BoxFuture, Channels, LiveError};
use crate::config::Retention;
use crate::id::{Resume, StreamId};
use crate::message::{Channel, Message, Outcome, Publication};
use crate::queue::{Queue, lock};
use crate::subscription::{ListenerHost, Subscription};
use state::{PREFIX, State};

/// Channels in memory. What was published before the process started is a gap.
pub struct LocalChannels {
    shared: Arc<Shared>,
}

struct Shared {
    /// Milliseconds since the Unix epoch.
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    state: Mutex<State>,
    listeners: AtomicUsize,
}

impl LocalChannels {
    /// Empty channels.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self::with_clock(retention, || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
        })
    }

    /// Empty channels by another clock: milliseconds since the Unix epoch.
    #[must_use]
    pub fn with_clock(
        retention: Retention,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(State::new(retention, clock()));
        let clock = Box::new(clock);
        Self {
            shared: Arc::new(Shared {
                clock,
                state,
                listeners: AtomicUsize::new(0),
            }),
        }
    }
}

impl Channels for LocalChannels {
    fn publish<'a>(
        &'a self,
        publications: &'a [Publication],
    ) -> BoxFuture<'a, Result<Vec<Outcome>, LiveError>> {
        Box::pin(async move {
            let now = (self.shared.clock)();
            let mut state = lock(&self.shared.state);
            let outcomes = publications
                .iter()
                .map(|publication| state.publish(publication, now))
                .collect();
            state.sweep(now);
            Ok(outcomes)
        })
    }

    fn send_transient<'a>(
        &'a self,
        messages: &'a [(Channel, Message)],
    ) -> BoxFuture<'a, Result<usize, LiveError>> {
        let state = lock(&self.shared.state);
        let heard = messages
            .iter()
            .filter(|(channel, message)| state.send_transient(&channel.key(PREFIX), message));
        Box::pin(std::future::ready(Ok(heard.count())))
    }

    fn mark_gap(&self) -> BoxFuture<'_, Result<StreamId, LiveError>> {
        Box::pin(async move {
            let now = (self.shared.clock)();
            Ok(lock(&self.shared.state).mark_gap(now))
        })
    }

    fn subscribe(&self, channel: Channel, resume: Resume, queue_bytes: usize) -> Subscription {
        let key: Arc<str> = channel.key(PREFIX).into();
        let queue = Arc::new(Queue::new(queue_bytes));
        let now = (self.shared.clock)();
        self.shared.listeners.fetch_add(1, Ordering::Relaxed);
        let listener = lock(&self.shared.state).subscribe(&key, resume, Arc::clone(&queue), now);
        let host = Arc::clone(&self.shared) as Arc<dyn ListenerHost>;
        Subscription::new(host, key, listener, queue)
    }

    fn erase<'a>(
        &'a self,
        channel: &'a Channel,
        _: &'a [Uuid],
    ) -> BoxFuture<'a, Result<u64, LiveError>> {
        let erased = lock(&self.shared.state).erase(&channel.key(PREFIX));
        Box::pin(std::future::ready(Ok(erased as u64)))
    }

    fn kept_bytes(&self) -> BoxFuture<'_, Option<u64>> {
        let bytes = u64::try_from(lock(&self.shared.state).kept_bytes());
        Box::pin(std::future::ready(bytes.ok()))
    }

    fn listened(&self) -> bool {
        self.shared.listeners.load(Ordering::Relaxed) > 0
    }

    fn connected(&self) -> bool {
        true
    }
}

impl ListenerHost for Shared {
    fn more(&self, key: &Arc<str>, listener: u64) {
        let now = (self.clock)();
        lock(&self.state).catch_up(key, listener, now);
    }

    fn leave(&self, key: &Arc<str>, listener: u64) {
        let now = (self.clock)();
        lock(&self.state).leave(key, listener, now);
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends the listeners.
impl Drop for LocalChannels {
    fn drop(&mut self) {
        lock(&self.shared.state).close();
    }
}

impl fmt::Debug for LocalChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalChannels").finish_non_exhaustive()
    }
}
