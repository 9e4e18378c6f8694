//! The client: a queue, and a thread that empties it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::counters::Counters;
use crate::event::Event;
use crate::sender::{SendError, Sender};
use crate::worker::{Refusal, Worker};

/// How many events there are in one request.
const BATCH: std::ops::RangeInclusive<usize> = 10..=50;

/// Sends events in the background. Clones share the queue; the last one that is dropped sends the rest.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` once it is closed.
    queue: Mutex<Option<mpsc::Sender<Event>>>,
    flush: mpsc::UnboundedSender<oneshot::Sender<()>>,
    counters: Arc<Counters>,
    ended: watch::Receiver<bool>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// How many events there are, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Not settled yet; after [`Client::close`] those that were given up.
    pub waiting: u64,
    /// Taken by the service.
    pub accepted: u64,
    /// Not taken by it, now or later.
    pub refused: u64,
}

/// Why an event was not put into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The service has been down for so long that the queue is full.
    #[error("the queue is full")]
    Full,
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

/// The settings of a client.
pub struct Builder {
    url: String,
    key: Option<String>,
    batch: usize,
    interval: Duration,
    queue: usize,
    close_within: Duration,
    on_refused: Refusal,
}

impl Client {
    /// A client of the instance at `url`: its only address, or that of the proxy or the gateway.
    #[must_use]
    pub fn builder(url: &str) -> Builder {
        Builder {
            url: url.to_owned(),
            key: None,
            batch: *BATCH.end(),
            interval: Duration::from_millis(200),
            queue: 10_000,
            close_within: Duration::from_secs(5),
            on_refused: Box::new(|_, _| {}),
        }
    }

    /// Puts an event into the queue; never waits.
    ///
    /// # Errors
    /// The queue is full, or the client is closed: the event is not sent.
    pub fn track(&self, event: Event) -> Result<(), NotTaken> {
        let queue = lock(&self.shared.queue);
        let queue = queue.as_ref().ok_or(NotTaken::Closed)?;
        queue.try_send(event).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Closed,
        })?;
        self.shared.counters.tracked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until everything tracked so far is settled, for as long as that takes.
    pub async fn flush(&self) {
        let (settled, wait) = oneshot::channel();
        if self.shared.flush.send(settled).is_ok() {
            // An error is the end of the thread: nothing is left to wait for.
            let _ = wait.await;
        }
    }

    /// Takes no more events, and sends what is in the queue, within [`Builder::close_within`]. Returns
    /// what became of all.
    pub async fn close(self) -> Counts {
        self.shared.close();
        let mut ended = self.shared.ended.clone();
        // An error is the end of the thread too.
        let _ = ended.wait_for(|ended| *ended).await;
        self.counts()
    }

    /// What became of the events so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (accepted, refused) = (read(&counters.accepted), read(&counters.refused));
        Counts {
            waiting: read(&counters.tracked).saturating_sub(accepted + refused),
            accepted,
            refused,
        }
    }
}

impl Shared {
    fn close(&self) {
        self.counters.closing.store(true, Ordering::Relaxed);
        lock(&self.queue).take();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
        let thread = lock(&self.thread).take();
        // It ends within `Builder::close_within`. An error is its panic, which was printed.
        let _ = thread.map(std::thread::JoinHandle::join);
    }
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Builder {
    /// An API key or token of the scope `write`.
    #[must_use]
    pub fn key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    /// Events in one request at most: 10 to 50, which is the default.
    #[must_use]
    pub fn batch(mut self, events: usize) -> Self {
        self.batch = events.clamp(*BATCH.start(), *BATCH.end());
        self
    }

    /// How long an event waits for others to be sent with; 200 ms by default.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Events in the queue at most; 10,000 by default.
    #[must_use]
    pub fn queue(mut self, events: usize) -> Self {
        self.queue = events.max(1);
        self
    }

    /// How long the end may take while the service is down; 5 s by default. What is in the queue then is
    /// given up.
    #[must_use]
    pub fn close_within(mut self, limit: Duration) -> Self {
        self.close_within = limit;
        self
    }

    /// Is told of every event that the service refused, as JSON, and why.
    #[must_use]
    pub fn on_refused(mut self, told: impl Fn(&str, &str) + Send + 'static) -> Self {
        self.on_refused = Box::new(told);
        self
    }

    /// Starts the client's thread. The service may be down.
    ///
    /// # Errors
    /// The URL or the key cannot be used, or there is no thread.
    pub fn start(self) -> Result<Client, SendError> {
        let sender = Sender::new(&self.url, self.key.as_deref(), Duration::MAX)?;
        let (queue, events) = mpsc::channel(self.queue);
        let (flush, flushes) = mpsc::unbounded_channel();
        let (end, ended) = watch::channel(false);
        let counters = Arc::<Counters>::default();
        let worker = Worker {
            sender,
            events,
            flushes,
            counters: Arc::clone(&counters),
            batch: self.batch,
            interval: self.interval,
            close_within: self.close_within,
            on_refused: self.on_refused,
        };
        let hopeless = |error: std::io::Error| SendError::Hopeless(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(hopeless)?;
        let thread = std::thread::Builder::new()
            .name("tidegate-client".to_owned())
            .spawn(move || {
                runtime.block_on(worker.run());
                // Nobody may wait for it.
                let _ = end.send(true);
            })
            .map_err(hopeless)?;
        Ok(Client {
            shared: Arc::new(Shared {
                queue: Mutex::new(Some(queue)),
                flush,
                counters,
                ended,
                thread: Mutex::new(Some(thread)),
            }),
        })
    }
}
