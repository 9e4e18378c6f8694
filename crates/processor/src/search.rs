//! Fills the index that events are searched by, behind the storing and at its own pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::search::{Engine, Indexed, SearchError};
use store::pool::Connection;
use store::search::{self as index, Begin, Part, Progress};
use store::write::DeadLetter;
use store::{Database, behind, migrate};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::metrics::SearchMetrics;
use crate::rest::{self, Storing};

/// How often it is looked for something to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same where nothing seems to have been stored.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);
/// The same where PostgreSQL or the engine does not answer.
const RETRY: Duration = Duration::from_secs(2);
/// Events of one step, and their bytes.
const EVENTS: i64 = 1_000;
const BYTES: usize = 4 * 1024 * 1024;
/// A part of time that is read at once, at first; it grows while there is little in it.
const WINDOW: Duration = Duration::from_secs(60);

/// The task that fills the index.
pub(crate) struct Indexing {
    db: Database,
    engine: Arc<dyn Engine>,
    owner: Uuid,
    metrics: SearchMetrics,
}

/// What a step did.
struct Step {
    events: usize,
    /// There was more than a step takes.
    full: bool,
    /// All that was stored before this is in.
    reached: OffsetDateTime,
}

/// How a connection goes about it.
struct Pace {
    windows: [Duration; 2],
    storing: Storing,
    /// When more was stored than before.
    stored_at: OffsetDateTime,
    /// When it was looked for more, and whether all of that is in.
    looked: Instant,
    settled: bool,
}

impl Indexing {
    pub(crate) fn new(db: Database, engine: Arc<dyn Engine>, metrics: SearchMetrics) -> Self {
        Self {
            db,
            engine,
            owner: Uuid::now_v7(),
            metrics,
        }
    }

    /// Fills the index until dropped. Of several processors one does.
    pub(crate) async fn run(self) {
        migrate::ready(&self.db, false).await;
        loop {
            if let Err(error) = self.connected().await {
                self.metrics.failures.inc();
                tracing::warn!(%error, "the search index waits, and will be tried again");
                self.explain(&error).await;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Leaves the reason where it is asked for.
    async fn explain(&self, error: &SearchError) {
        if let Ok(client) = self.db.client().await {
            let why = error.to_string();
            let _ = index::problem(&client, self.engine.name(), &why).await;
            let _ = index::release(&client, self.engine.name(), self.owner).await;
        }
    }

    async fn connected(&self) -> Result<(), SearchError> {
        let mut client = self.db.connect().await?;
        self.engine.prepare().await?;
        let horizon = behind::horizon(&client).await?;
        index::begin(&client, self.engine.name(), horizon).await?;
        let mut pace = Pace {
            windows: [WINDOW; 2],
            storing: Storing::new(),
            stored_at: horizon,
            looked: Instant::now(),
            settled: false,
        };
        loop {
            let claimed = index::claim(&client, self.engine.name(), self.owner).await?;
            let Some(progress) = claimed else {
                self.metrics.lag.set(0.0);
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            let began = Instant::now();
            let (stored, now) = behind::stored(&client).await?;
            if pace.storing.look(stored) {
                (pace.stored_at, pace.settled) = (now, false);
            }
            let mut events = self.remove(&client, &progress).await?;
            let (mut lag, mut behind) = (time::Duration::ZERO, false);
            if !pace.settled || pace.looked.elapsed() >= LOOK_ANYWAY {
                let horizon = behind::horizon(&client).await?;
                let step = self
                    .follow(&mut client, &progress, horizon, &mut pace)
                    .await?;
                behind = step.full || step.reached < horizon;
                if behind {
                    lag = horizon - step.reached;
                } else {
                    (pace.looked, pace.settled) = (Instant::now(), horizon >= pace.stored_at);
                }
            }
            self.metrics.lag.set(lag.as_seconds_f64());
            events += self.again(&mut client, &progress, &mut pace).await?;
            tokio::time::sleep(match events {
                // What comes meanwhile is one step then: each costs as much as many events.
                0 if !behind => LOOK_EVERY,
                _ => pace
                    .storing
                    .rest(began.elapsed(), lag.unsigned_abs(), rest::MINUTES),
            })
            .await;
        }
    }

    /// Puts in what was stored since.
    async fn follow(
        &self,
        client: &mut Connection,
        progress: &Progress,
        horizon: OffsetDateTime,
        pace: &mut Pace,
    ) -> Result<Step, SearchError> {
        if progress.at >= horizon {
            return Ok(Step {
                events: 0,
                full: false,
                reached: progress.at,
            });
        }
        let until = horizon.min(progress.at.saturating_add(span(pace.windows[0])));
        let begin = Begin {
            part: Part::New,
            until,
        };
        let step = self.step(client, progress, begin).await?;
        widen(&mut pace.windows[0], &step);
        Ok(step)
    }

    /// Puts in what was stored before.
    async fn again(
        &self,
        client: &mut Connection,
        progress: &Progress,
        pace: &mut Pace,
    ) -> Result<usize, SearchError> {
        let (Some(at), Some(end)) = (progress.again_at, progress.again_until) else {
            return Ok(0);
        };
        if at >= end {
            self.engine.sweep(client, progress.generation).await?;
            index::end_again(client, self.owner, progress).await?;
            tracing::info!(
                engine = self.engine.name(),
                "what was stored before is in the search index"
            );
            return Ok(1);
        }
        let begin = Begin {
            part: Part::Again,
            until: end.min(at.saturating_add(span(pace.windows[1]))),
        };
        let step = self.step(client, progress, begin).await?;
        widen(&mut pace.windows[1], &step);
        Ok(step.events + 1)
    }

    async fn step(
        &self,
        client: &mut Connection,
        progress: &Progress,
        begin: Begin,
    ) -> Result<Step, SearchError> {
        let tx = client.transaction().await.map_err(store::Error::from)?;
        let found = index::next(&tx, progress, begin, EVENTS, BYTES).await?;
        let events: Vec<Indexed<'_>> = found.rows.iter().map(Indexed::of).collect();
        let refused = if events.is_empty() {
            Vec::new()
        } else {
            self.engine.index(&tx, &events, progress.generation).await?
        };
        let full = found.cut || i64::try_from(events.len()).is_ok_and(|count| count >= EVENTS);
        let last = found.rows.last().filter(|_| full);
        let letters: Vec<DeadLetter> = refused
            .iter()
            .filter_map(|one| Some(letter(events.get(one.at)?, self.engine.name(), &one.why)))
            .collect();
        let indexed = events.len() - letters.len();
        let count = i64::try_from(indexed).unwrap_or(i64::MAX);
        let noted = (count, letters.as_slice());
        if !index::advance(&tx, self.owner, progress, begin, last, noted).await? {
            return Ok(Step {
                events: 0,
                full: false,
                reached: progress.at,
            });
        }
        tx.commit().await.map_err(store::Error::from)?;
        self.metrics.indexed.inc_by(indexed as u64);
        self.metrics.refused.inc_by(letters.len() as u64);
        Ok(Step {
            events: events.len(),
            full,
            reached: last.map_or(begin.until, |last| last.created_at),
        })
    }

    /// Removes what was erased or is kept no longer; returns how much there was to do.
    async fn remove(&self, client: &Connection, progress: &Progress) -> Result<usize, SearchError> {
        if self.engine.name() == "postgres" {
            return Ok(0);
        }
        let (removals, kept_from) = index::removals(client).await?;
        let is_new = kept_from != progress.kept_from;
        if removals.is_empty() && !is_new {
            return Ok(0);
        }
        self.engine
            .remove(&removals, kept_from.filter(|_| is_new))
            .await?;
        index::removed(client, self.engine.name(), &removals, kept_from).await?;
        Ok(removals.len() + 1)
    }
}

/// Grows the part of time that is read at once while there is little in it, and shrinks it where it is much.
fn widen(window: &mut Duration, step: &Step) {
    *window = if step.full {
        (*window / 2).max(Duration::from_secs(1))
    } else {
        (*window * 2).min(Duration::from_secs(366 * 86_400))
    };
}

fn span(window: Duration) -> time::Duration {
    window.try_into().unwrap_or(time::Duration::MAX)
}

/// An event that the engine refuses, for people: the event itself is stored.
fn letter(of: &Indexed<'_>, engine: &str, why: &str) -> DeadLetter {
    let event = &of.stored.event;
    DeadLetter {
        tenant_id: event.tenant_id.clone(),
        topic: format!("search:{engine}"),
        partition: 0,
        offset: 0,
        key: None,
        headers: Vec::new(),
        payload: None,
        reason: "search_refused".to_owned(),
        detail: why.to_owned(),
        event_id: Some(event.event_id),
        timestamp_ms: None,
        from_postgres: false,
        was: None,
    }
}
