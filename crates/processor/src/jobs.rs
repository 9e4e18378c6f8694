//! Does what rules want done with stored events: claim → call → record.
//!
//! Nothing is locked while a call runs: it has a lease that is longer than its time limit. Each rule has
//! a number of calls at a time of its own, so one that hangs or fails holds up no other.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use domain::Event;
use futures_util::FutureExt as _;
use store::work::{self, Claimed, Slot};
use store::{Database, Error, behind};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::rest::{self, Storing};
use crate::rules::{RuleCache, Rules};

/// How much longer than the time limit of its call a lease is: for reading the event and recording.
const MARGIN: Duration = Duration::from_secs(30);
/// Most begun at once.
const CLAIMED: usize = 256;
/// Most under way.
const UNDER_WAY: usize = 2_048;
/// Bytes of events under way beyond which no more are begun: each call makes a message of its event.
const BYTES_UNDER_WAY: usize = 32 * 1024 * 1024;

/// A rule whose work can be done in this process.
#[derive(Debug, Clone, Copy)]
pub struct Runnable {
    /// The rule.
    pub rule_id: Uuid,
    /// Calls at a time.
    pub concurrency: usize,
    /// How long a call may take.
    pub timeout: Duration,
}

/// How a call ended.
#[derive(Debug)]
pub enum Ended<O> {
    /// By itself.
    Returned(O),
    /// It took longer than this and was cut off.
    TimedOut(Duration),
    /// It panicked, with these words.
    Panicked(String),
    /// The event was removed before it could be called.
    Gone,
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct Done<O> {
    /// The attempt.
    pub claimed: Claimed,
    /// The event; none if it was removed.
    pub event: Option<Arc<Event>>,
    /// How it ended.
    pub ended: Ended<O>,
    /// How long it took.
    pub took: Duration,
}

/// A kind of work.
pub trait Jobs: Send + Sync + 'static {
    /// What a call returns.
    type Outcome: Send + 'static;

    /// Whether it rests while a lot is stored, so that storing goes first.
    const RESTS: bool;

    /// Which of the rules can be done in this process, those to be begun first first.
    fn runnable(&self, rules: &Rules) -> Vec<Runnable>;

    /// Does it, with no transaction open. May panic, and may be cut off at any await.
    fn call(
        &self,
        claimed: &Claimed,
        event: &Arc<Event>,
    ) -> impl Future<Output = Self::Outcome> + Send;

    /// Records what became of these; returns after which times some of them are due again.
    ///
    /// # Errors
    /// The database does not answer; it is tried again.
    fn record(
        &self,
        done: &[Done<Self::Outcome>],
    ) -> impl Future<Output = Result<Vec<Duration>, Error>> + Send;
}

/// Does the work of one kind until it is told to stop.
pub struct Runner<J: Jobs> {
    db: Database,
    rules: RuleCache,
    jobs: Arc<J>,
    /// How often it is looked for what other processes left.
    sweep: Duration,
    running: HashMap<Uuid, usize>,
    tasks: JoinSet<Done<J::Outcome>>,
    due: BTreeSet<Instant>,
    /// Bytes of the events under way, each as often as it is.
    bytes: usize,
    /// The largest event of the last claim, in bytes: so large may the next ones be.
    largest: usize,
    storing: Storing,
    /// How long claiming and recording took since the last rest, and until when this one is.
    took: Duration,
    rests_until: Instant,
}

impl<J: Jobs> Runner<J> {
    /// Does nothing yet.
    #[must_use]
    pub fn new(db: Database, rules: RuleCache, jobs: J, sweep: Duration) -> Self {
        Self {
            db,
            rules,
            jobs: Arc::new(jobs),
            sweep,
            running: HashMap::new(),
            tasks: JoinSet::new(),
            due: BTreeSet::new(),
            bytes: 0,
            largest: 1,
            storing: Storing::new(),
            took: Duration::ZERO,
            rests_until: Instant::now(),
        }
    }

    /// Works until `stop` is dropped or sent; then waits for the calls that run. What is not recorded
    /// when this is dropped is done again once its lease has ended.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut notices = self.rules.notices();
        loop {
            if let Err(error) = self.claim().await {
                tracing::warn!(error = %error, "what is to be done cannot be claimed yet");
            }
            let now = Instant::now();
            self.due = self.due.split_off(&now);
            let mut next = self.due.first().copied().unwrap_or(now + self.sweep);
            if self.rests_until > now {
                next = next.min(self.rests_until);
            }
            tokio::select! {
                Some(done) = self.tasks.join_next() => self.record(done.ok()).await,
                _ = notices.changed() => {}
                () = tokio::time::sleep_until(next.min(now + self.sweep)) => {}
                _ = &mut stop => break,
            }
        }
        while let Some(done) = self.tasks.join_next().await {
            self.record(done.ok()).await;
        }
    }

    async fn claim(&mut self) -> Result<(), Error> {
        let Some(rules) = self.rules.known() else {
            return Ok(());
        };
        let runnable = self.jobs.runnable(&rules);
        let timeouts: HashMap<Uuid, Duration> = runnable
            .iter()
            .map(|one| (one.rule_id, one.timeout))
            .collect();
        let room = BYTES_UNDER_WAY.saturating_sub(self.bytes) / self.largest;
        let left = UNDER_WAY.saturating_sub(self.tasks.len());
        let left = left.min(room).min(CLAIMED);
        let began = Instant::now();
        if left == 0 || began < self.rests_until {
            return Ok(());
        }
        let mut slots = vec![];
        for one in runnable {
            let running = self.running.get(&one.rule_id).copied().unwrap_or(0);
            let free = one.concurrency.saturating_sub(running);
            if free > 0 {
                slots.push(Slot {
                    rule_id: one.rule_id,
                    free,
                    lease: one.timeout + MARGIN,
                });
            }
        }
        if slots.is_empty() {
            return Ok(());
        }
        let claimed = work::claim(&self.db, &slots, left).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        let client = self.db.client().await?;
        let reading = work::events(&client, &claimed);
        let events = if J::RESTS {
            // In one round trip.
            let (events, (stored, _)) = tokio::try_join!(reading, behind::stored(&client))?;
            self.storing.look(stored);
            self.rest(began, &claimed);
            events
        } else {
            reading.await?
        };
        let events: HashMap<_, _> = events
            .into_iter()
            .map(|(key, event)| (key, Arc::new(event)))
            .collect();
        let sizes = events.values().map(|event| size(event));
        self.largest = sizes.max().unwrap_or(1);
        for claimed in claimed {
            let event = events
                .get(&(claimed.tenant_id.clone(), claimed.event_id))
                .cloned();
            let limit = timeouts.get(&claimed.rule_id).copied().unwrap_or(MARGIN);
            *self.running.entry(claimed.rule_id).or_default() += 1;
            self.bytes += event.as_ref().map_or(0, |event| size(event));
            self.tasks
                .spawn(attempt(Arc::clone(&self.jobs), claimed, event, limit));
        }
        Ok(())
    }

    /// Begins a rest, as long as what was done since the last one asks for.
    fn rest(&mut self, began: Instant, claimed: &[Claimed]) {
        let took = std::mem::take(&mut self.took) + began.elapsed();
        let behind = claimed.iter().map(|one| one.waited).max();
        let behind = behind.unwrap_or_default();
        self.rests_until = Instant::now() + self.storing.rest(took, behind, rest::SECONDS);
    }

    /// Records this one and all others that have ended.
    async fn record(&mut self, first: Option<Done<J::Outcome>>) {
        let began = Instant::now();
        let mut done: Vec<_> = first.into_iter().collect();
        while let Some(next) = self.tasks.try_join_next() {
            done.extend(next.ok());
        }
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .build();
        for pause in pauses {
            match self.jobs.record(&done).await {
                Ok(again) => {
                    let now = Instant::now();
                    self.due.extend(again.into_iter().map(|pause| now + pause));
                    break;
                }
                Err(error) if error.kind() == store::Kind::Data => {
                    tracing::error!(error = %error, "what was done cannot be recorded; it will be done again");
                    break;
                }
                Err(error) => {
                    tracing::warn!(error = %error, retry_in_ms = pause.as_millis(), "what was done cannot be recorded yet");
                    tokio::time::sleep(pause).await;
                }
            }
        }
        self.took += began.elapsed();
        for one in &done {
            let size = one.event.as_ref().map_or(0, |event| size(event));
            self.bytes = self.bytes.saturating_sub(size);
            if let Some(running) = self.running.get_mut(&one.claimed.rule_id) {
                *running = running.saturating_sub(1);
            }
        }
    }
}

/// About how many bytes an event takes.
fn size(event: &Event) -> usize {
    const REST: usize = 1_024;
    REST + event.objects_bytes()
}

async fn attempt<J: Jobs>(
    jobs: Arc<J>,
    claimed: Claimed,
    event: Option<Arc<Event>>,
    limit: Duration,
) -> Done<J::Outcome> {
    let began = Instant::now();
    let ended = match &event {
        None => Ended::Gone,
        Some(event) => {
            let call = AssertUnwindSafe(jobs.call(&claimed, event)).catch_unwind();
            match tokio::time::timeout(limit, call).await {
                Ok(Ok(outcome)) => Ended::Returned(outcome),
                Ok(Err(panic)) => Ended::Panicked(words(&*panic)),
                Err(_) => Ended::TimedOut(limit),
            }
        }
    };
    Done {
        claimed,
        event,
        ended,
        took: began.elapsed(),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned())
}

/// Spreads retries of what failed together, from 0 to 1.
pub(crate) fn jitter(event_id: Uuid) -> f64 {
    let [.., one, two] = *event_id.as_bytes();
    f64::from(u16::from_be_bytes([one, two])) / f64::from(u16::MAX)
}
