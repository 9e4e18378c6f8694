//! Watches how events are built, as they are stored: a sample of their data, ids that are missing, clocks
//! that are wrong, repeats. Bounded in memory; what is seen is written every few seconds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::Event;
use domain::instrumentation::shape;
use store::instrumentation::{self, Quality, QualityKey, ShapeKey};
use store::write::{Pending, Written};
use store::{Database, Error};
use tokio::time::Instant;
use uuid::Uuid;

use crate::metrics::InstrumentationMetrics;

/// How often it is written.
const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How often what is old is removed, and what is.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
const KEPT: Duration = Duration::from_secs(90 * 86_400);
/// Between two flushes: types and sources, and members of data, that are remembered; events of a type whose
/// data is looked at.
const MAX_TYPES: usize = 2_000;
const MAX_SHAPES: usize = 20_000;
const SAMPLE: u32 = 20;
/// A clock is wrong by more than these seconds: an event comes so late at the earliest, or so early.
const LATE: i64 = 300;
const EARLY: i64 = 5;

/// What was seen since the last flush. Clones share it.
#[derive(Clone)]
pub(crate) struct Instrumentation {
    seen: Arc<Mutex<Seen>>,
    metrics: InstrumentationMetrics,
}

#[derive(Default)]
struct Seen {
    shapes: BTreeMap<ShapeKey, i64>,
    quality: BTreeMap<QualityKey, Quality>,
    sampled: HashMap<(String, String), u32>,
}

impl Instrumentation {
    pub(crate) fn new(metrics: InstrumentationMetrics) -> Self {
        Self {
            seen: Arc::default(),
            metrics,
        }
    }

    /// Takes note of a batch: the events that were to be stored, and what became of them.
    pub(crate) fn note(&self, events: &[Pending<'_>], written: &Written<'_>) {
        let new: HashSet<usize> = written.new.iter().map(|pending| pending.item).collect();
        let refused = written.refused.iter().filter_map(|letter| letter.event_id);
        let refused: HashSet<Uuid> = refused.collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for pending in events {
            let event = pending.event;
            if refused.contains(&event.event_id) {
                continue;
            }
            let key = QualityKey {
                tenant: event.tenant_id.as_str().to_owned(),
                day: event.received_at.date(),
                event_type: event.event_type.clone(),
                event_source: event.event_source.as_str(),
            };
            let is_full = seen.quality.len() >= MAX_TYPES;
            if is_full && !seen.quality.contains_key(&key) {
                self.metrics.ignored.inc();
                continue;
            }
            let quality = seen.quality.entry(key).or_default();
            quality.events += 1;
            if !new.contains(&pending.item) {
                quality.duplicates += 1;
                self.count("duplicate");
                continue;
            }
            self.judge(event, quality);
            sample(&mut seen, event);
        }
    }

    fn judge(&self, event: &Event, quality: &mut Quality) {
        let ids = [
            &event.user_id,
            &event.session_id,
            &event.device_id,
            &event.aggregate_id,
        ];
        if ids.iter().all(|id| id.is_none()) {
            quality.without_ids += 1;
            self.count("without_ids");
        }
        let late = (event.received_at - event.timestamp).whole_seconds();
        quality.worst_seconds = quality.worst_seconds.max(late.abs());
        if late > LATE {
            quality.late += 1;
            self.count("late");
        } else if late < -EARLY {
            quality.early += 1;
            self.count("early");
        }
    }

    fn count(&self, what: &str) {
        self.metrics.events.with_label_values(&[what]).inc();
    }

    /// Writes what was seen, until dropped.
    pub(crate) async fn flush(self, db: Database) {
        let mut forgot: Option<Instant> = None;
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            let seen = {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *seen)
            };
            let shapes: Vec<_> = seen.shapes.into_iter().collect();
            let quality: Vec<_> = seen.quality.into_iter().collect();
            // What cannot be written now is gone: it is a sample.
            if let Err(error) = instrumentation::add(&db, &shapes, &quality).await {
                tracing::debug!(%error, "how events are built is not written");
                continue;
            }
            if forgot.is_none_or(|at| at.elapsed() >= FORGET_EVERY) && forget(&db).await.is_ok() {
                forgot = Some(Instant::now());
            }
        }
    }
}

async fn forget(db: &Database) -> Result<(), Error> {
    let client = db.client().await?;
    instrumentation::forget(&client, service::clock::now() - KEPT).await
}

/// Looks at the data of the first events of a type.
fn sample(seen: &mut Seen, event: &Event) {
    let of = (
        event.tenant_id.as_str().to_owned(),
        event.event_type.clone(),
    );
    let sampled = seen.sampled.entry(of).or_default();
    if *sampled >= SAMPLE {
        return;
    }
    *sampled += 1;
    for (path, json_type) in shape(&event.data) {
        let key = ShapeKey {
            tenant: event.tenant_id.as_str().to_owned(),
            event_type: event.event_type.clone(),
            schema_version: event.schema_version.clone(),
            path,
            json_type,
        };
        if seen.shapes.len() < MAX_SHAPES || seen.shapes.contains_key(&key) {
            *seen.shapes.entry(key).or_default() += 1;
        }
    }
}
