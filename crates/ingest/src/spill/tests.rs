//! The decision alone, on scripted logs; the real ones are in `tests/it/spill.rs`.

use std::sync::Mutex;

use super::*;
use eventlog::{Acknowledgement, BoxFuture, Headers};

/// A log with a script: what the next acknowledgements are.
struct Scripted {
    connected: AtomicBool,
    next: Mutex<Result<(), PublishError>>,
    taken: AtomicU64,
    flushes: Mutex<Vec<Duration>>,
    /// Never done with flushing.
    hangs: AtomicBool,
}

impl Scripted {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            connected: AtomicBool::new(true),
            next: Mutex::new(Ok(())),
            taken: AtomicU64::new(0),
            flushes: Mutex::default(),
            hangs: AtomicBool::new(false),
        })
    }

    fn answers(&self, next: Result<(), PublishError>) {
        *self.next.lock().unwrap() = next;
    }

    fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Publisher for Scripted {
    fn publish(&self, records: &[Outgoing]) -> Result<Acknowledgement, PublishError> {
        if !self.connected() {
            return Err(PublishError::Unavailable);
        }
        let next = self.next.lock().unwrap().clone();
        if next == Err(PublishError::Full) {
            return Err(PublishError::Full);
        }
        self.taken
            .fetch_add(records.len() as u64, Ordering::Relaxed);
        Ok(Box::pin(std::future::ready(next)))
    }

    fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, Result<(), PublishError>> {
        self.flushes.lock().unwrap().push(limit);
        Box::pin(async move {
            if self.hangs.load(Ordering::Relaxed) {
                tokio::time::sleep(limit).await;
                return Err(PublishError::Unavailable);
            }
            Ok(())
        })
    }
}

struct World {
    primary: Arc<Scripted>,
    spill: Arc<Scripted>,
    writer: Writer,
}

fn world(frontend: bool) -> World {
    let (primary, spill) = (Scripted::new(), Scripted::new());
    let logs = Logs {
        primary: primary.clone(),
        kind: Kind::Kafka,
        spill: Some(spill.clone()),
    };
    World {
        writer: Writer::new(logs, frontend, &Registry::new()).unwrap(),
        primary,
        spill,
    }
}

impl World {
    async fn publish(&self, is_frontend: bool) -> Result<(), PublishError> {
        let record = Outgoing {
            topic: "t".into(),
            key: vec![],
            headers: Headers::default(),
            payload: "x".into(),
        };
        self.writer.publish(vec![record], is_frontend).await
    }

    fn taken(&self) -> (u64, u64) {
        (self.primary.taken(), self.spill.taken())
    }
}

#[tokio::test]
async fn without_a_broker_backends_spill_and_browsers_do_not() {
    let world = world(false);
    world.primary.connected.store(false, Ordering::Relaxed);
    assert!(world.writer.admits(false) && !world.writer.admits(true));
    assert_eq!(world.publish(false).await, Ok(()));
    assert_eq!(world.publish(true).await, Err(PublishError::Unavailable));
    assert_eq!(world.taken(), (0, 1));
    assert!(world.writer.is_spilling());

    world.primary.connected.store(true, Ordering::Relaxed);
    assert_eq!(world.publish(false).await, Ok(()));
    assert_eq!(world.taken(), (1, 1));
    assert!(!world.writer.is_spilling());
}

#[tokio::test]
async fn browsers_spill_where_they_may() {
    let world = world(true);
    world.primary.connected.store(false, Ordering::Relaxed);
    assert!(world.writer.admits(true));
    assert_eq!(world.publish(true).await, Ok(()));
    assert_eq!(world.taken(), (0, 1));
}

#[tokio::test]
async fn a_broker_that_is_silent_is_tried_now_and_then_only() {
    let mut world = world(false);
    world.primary.answers(Err(PublishError::Unavailable));
    for _ in 0..5 {
        assert_eq!(world.publish(false).await, Ok(()));
    }
    assert_eq!(world.taken(), (1, 5));
    assert!(world.writer.is_spilling());

    world.primary.answers(Ok(()));
    // As if the time had passed.
    world.writer.started -= RETRY_EVERY;
    assert_eq!(world.publish(false).await, Ok(()));
    assert_eq!(world.publish(false).await, Ok(()));
    assert_eq!(world.taken(), (3, 5));
    assert!(!world.writer.is_spilling());
}

#[tokio::test]
async fn full_and_too_large_are_no_outage() {
    let world = world(false);
    for error in [PublishError::Full, PublishError::TooLarge] {
        world.primary.answers(Err(error.clone()));
        assert_eq!(world.publish(false).await, Err(error));
    }
    assert_eq!(world.spill.taken(), 0);
    world
        .primary
        .answers(Err(PublishError::Failed("not authorised".into())));
    assert_eq!(world.publish(false).await, Ok(()));
    assert_eq!(world.spill.taken(), 1);
    assert!(!world.writer.is_spilling());
}

#[tokio::test]
async fn both_down_is_said() {
    let world = world(false);
    world.primary.connected.store(false, Ordering::Relaxed);
    world.spill.connected.store(false, Ordering::Relaxed);
    assert!(!world.writer.admits(false));
    assert_eq!(world.publish(false).await, Err(PublishError::Unavailable));
    let metrics = &world.writer.spill.as_ref().unwrap().metrics;
    let failures = metrics.failures.with_label_values(&["unavailable"]);
    assert_eq!(failures.get(), 1);
    assert_eq!(metrics.spilled.get(), 0);
}

#[tokio::test]
async fn a_broker_that_is_down_leaves_the_spill_its_time_to_flush() {
    let world = world(false);
    world.primary.hangs.store(true, Ordering::Relaxed);
    let limit = Duration::from_millis(100);
    let flushed = world.writer.flush(limit).await;
    assert_eq!(flushed, Err(PublishError::Unavailable));
    assert_eq!(*world.spill.flushes.lock().unwrap(), [limit]);
}
