//! Watches how events are built, as they are stored: a sample of their data, ids that are missing, clocks
//! that are wrong, repeats. Bounded in memory; what is seen is written every few seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::Event;
use domain::instrumentation::shape;
use store::instrumentation::{self, Quality, QualityKey, ShapeKey};
use store::{Database, Error};
use tokio::time::Instant;

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
const SAMPLE: usize = 20;
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
    sampled: HashMap<(String, String), usize>,
}

impl Instrumentation {
    pub(crate) fn new(metrics: InstrumentationMetrics) -> Self {
        Self {
            seen: Arc::default(),
            metrics,
        }
    }

    /// Takes note of a batch: the events that were to be stored, and whether each is new.
    pub(crate) fn note<'a>(&self, events: impl Iterator<Item = (&'a Event, bool)>) {
        // Thousands of events are of few types: they are put together before they are remembered.
        let mut batch: HashMap<_, (Quality, Vec<&Event>)> = HashMap::new();
        for (event, is_new) in events {
            let key = (
                event.tenant_id.as_str(),
                event.received_at.date(),
                event.event_type.as_str(),
                event.event_source.as_str(),
            );
            let (quality, samples) = batch.entry(key).or_default();
            quality.events += 1;
            if !is_new {
                quality.duplicates += 1;
                continue;
            }
            judge(event, quality);
            if samples.len() < SAMPLE {
                samples.push(event);
            }
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for ((tenant, day, event_type, event_source), (quality, samples)) in batch {
            let key = QualityKey {
                tenant: tenant.to_owned(),
                day,
                event_type: event_type.to_owned(),
                event_source,
            };
            let is_full = seen.quality.len() >= MAX_TYPES;
            if is_full && !seen.quality.contains_key(&key) {
                self.metrics.ignored.inc_by(quality.events.unsigned_abs());
                continue;
            }
            let sum = seen.quality.entry(key).or_default();
            sum.events += quality.events;
            sum.duplicates += quality.duplicates;
            sum.without_ids += quality.without_ids;
            sum.late += quality.late;
            sum.early += quality.early;
            sum.worst_seconds = sum.worst_seconds.max(quality.worst_seconds);
            self.count("duplicate", quality.duplicates);
            self.count("without_ids", quality.without_ids);
            self.count("late", quality.late);
            self.count("early", quality.early);
            for event in samples {
                sample(&mut seen, event);
            }
        }
    }

    fn count(&self, what: &str, events: i64) {
        if events > 0 {
            let counter = self.metrics.events.with_label_values(&[what]);
            counter.inc_by(events.unsigned_abs());
        }
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

fn judge(event: &Event, quality: &mut Quality) {
    let ids = [
        &event.user_id,
        &event.session_id,
        &event.device_id,
        &event.aggregate_id,
    ];
    if ids.iter().all(|id| id.is_none()) {
        quality.without_ids += 1;
    }
    let late = (event.received_at - event.timestamp).whole_seconds();
    quality.worst_seconds = quality.worst_seconds.max(late.abs());
    if late > LATE {
        quality.late += 1;
    } else if late < -EARLY {
        quality.early += 1;
    }
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
