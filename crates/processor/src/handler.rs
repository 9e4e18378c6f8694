//! Handlers: what a program that embeds the processor does with stored events (S3-10, S3-50).

use std::time::Duration;

use domain::Event;
use domain::retry::RetryPolicy;
use futures_util::future::BoxFuture;

/// What a handler makes of an event (S3-39).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Success,
    /// There is nothing to do with this one.
    Skipped,
    /// It cannot be done, and trying again would not help: the event becomes a dead letter.
    Failed(String),
    /// It could not be done now; tried again as [`Options::retry`] says.
    Retry(String),
}

/// How a handler is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Handlers of higher priority begin first. None waits for another.
    pub priority: i32,
    /// How long one call may take; then it is cut off, which counts as [`Outcome::Retry`].
    pub timeout: Duration,
    /// Calls at a time in one process.
    pub concurrency: usize,
    /// When it is tried again.
    pub retry: RetryPolicy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            priority: 0,
            timeout: Duration::from_secs(30),
            concurrency: 64,
            retry: RetryPolicy::default(),
        }
    }
}

/// Something to be done with every stored event of some types.
///
/// It is called at least once for each event, in no order: a process that is killed during a call, or
/// before its outcome is recorded, has it called again, so it must do no harm when it runs twice
/// (S3-35). It may not block its thread; what takes long belongs into a queue of its own (S3-37). An
/// error and a panic count as [`Outcome::Retry`].
pub trait EventHandler: Send + Sync + 'static {
    /// Its name, which its results are kept under: 1 to 255 characters, the same in every process.
    fn name(&self) -> &str;

    /// The types it is about, as patterns (`order.*`); all if empty.
    fn event_types(&self) -> Vec<String>;

    /// How it is run.
    fn options(&self) -> Options {
        Options::default()
    }

    /// Does it.
    ///
    /// # Errors
    /// It could not be done now.
    fn handle<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, anyhow::Result<Outcome>>;
}
