//! Where each partition of Kafka is read from: at the position that is stored beside the data. The
//! database may have gone back in time, and Kafka may no longer have what comes next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use eventlog::Source as _;
use eventlog::kafka::{Extent, Handle};
use store::write::positions::{self, Stored};
use store::{Database, Error, LogThrottle};

use super::dead_letter::log_gap;
use super::plan::Partition;
use super::rewinds::Rewinds;
use crate::metrics::Metrics;

/// How often the stored positions are compared with what was stored: nothing may be stored for long, and
/// so no fence be lost, while the database goes back.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause before asking again for what could not be known.
const AGAIN: Duration = Duration::from_millis(200);

/// Places what a consumer is assigned.
pub struct Placement {
    db: Database,
    consumer: Handle,
    rewinds: Rewinds,
    metrics: Arc<Metrics>,
    /// How far partitions were stored before the database was put back.
    reached: HashMap<Partition, i64>,
}

/// From where a partition is read.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The offset that is stored next.
    next: i64,
    /// The offset that is read next: before it if the end of the last owner left announcements undone.
    start: i64,
    /// What the log no longer has.
    gap: Option<Gap>,
}

/// Offsets that can no longer be stored.
#[derive(Debug, PartialEq, Eq)]
struct Gap {
    reason: &'static str,
    from: i64,
    /// The first that is there again; unknown of a log that is gone.
    to: Option<i64>,
}

impl Placement {
    /// Places what that consumer is assigned by the positions in that database.
    #[must_use]
    pub fn new(db: Database, consumer: Handle, rewinds: Rewinds, metrics: Arc<Metrics>) -> Self {
        Self {
            db,
            consumer,
            rewinds,
            metrics,
            reached: HashMap::new(),
        }
    }

    /// For ever: places what is assigned, and notices a database that was put back.
    pub async fn run(mut self) {
        let mut complaint = LogThrottle::default();
        loop {
            let unplaced = tokio::time::timeout(LOOK_EVERY, self.consumer.unplaced()).await;
            let placed = match unplaced {
                Ok(unplaced) => self.place(unplaced).await,
                Err(_) => self.look().await,
            };
            match placed {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(AGAIN).await,
                Err(error) => {
                    if complaint.allows() {
                        tracing::warn!(error = %error, "where partitions are to be read from is not known yet");
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// False if some must be asked for again.
    async fn place(&mut self, unplaced: Vec<Partition>) -> Result<bool, Error> {
        let extents = match self.consumer.extents(&unplaced).await {
            Ok(extents) => extents,
            Err(error) => return Err(Error::Pool(error.to_string())),
        };
        let is_complete = extents.len() == unplaced.len();
        let stored = positions::all(&*self.db.client().await?).await?;
        let mut placed = Vec::with_capacity(extents.len());
        let mut begun = Vec::new();
        for (partition, extent) in extents {
            let (topic, number) = &partition;
            let stored = stored.get(&(topic.to_string(), *number)).copied();
            let place = Place::of(stored, extent);
            self.write(&partition, stored, extent, &place).await?;
            let reached = self.reached.remove(&partition).max(extent.committed);
            let reached = reached.map(|reached| reached.min(extent.end));
            let is_new_topic = place.gap.as_ref().is_some_and(|gap| gap.to.is_none());
            if let Some(reached) = reached.filter(|to| *to > place.next && !is_new_topic) {
                self.rewinds.begin(&partition, place.next, reached);
            }
            // Where the group has no offset of this log, it has to have one before the first event is
            // stored: only from there on announcements that a crash left undone are made up for.
            if extent.committed.is_none() || is_new_topic {
                begun.push((partition.clone(), place.start));
            }
            placed.push((partition, place.start));
        }
        if !begun.is_empty() {
            let committed = self.consumer.commit(begun).await;
            committed.map_err(|error| Error::Pool(error.to_string()))?;
        }
        for ((topic, number), start) in placed {
            self.consumer.place(&topic, number, start);
        }
        // Until the consumer has moved they are still unplaced.
        tokio::time::sleep(AGAIN / 4).await;
        Ok(is_complete)
    }

    /// Writes the position of a partition that is new or has moved, and says what is gone.
    async fn write(
        &self,
        (topic, number): &Partition,
        stored: Option<Stored>,
        extent: Extent,
        place: &Place,
    ) -> Result<(), Error> {
        let to = Stored {
            next: place.next,
            topic_id: extent.topic_id.or(stored.and_then(|s| s.topic_id)),
        };
        if stored == Some(to) {
            return Ok(());
        }
        let letter = place.gap.as_ref().map(|gap| {
            let detail = gap.detail(extent);
            tracing::error!(
                log.topic = &**topic,
                log.partition = number,
                from = gap.from,
                to = gap.to,
                reason = gap.reason,
                "{detail}"
            );
            log_gap(topic, *number, gap.from, detail)
        });
        let from = stored.map(|stored| stored.next);
        if place.gap.is_none() && from.is_some_and(|from| from != place.next) {
            tracing::error!(
                log.topic = &**topic,
                log.partition = number,
                stored = from,
                next = place.next,
                "the log ends before the stored position: it lost its end, which is stored already"
            );
        }
        positions::replace(&self.db, (topic, *number), from, to, letter.as_ref()).await?;
        if let Some(gap) = &place.gap {
            self.metrics
                .log_gap(gap.reason, gap.to.map(|to| to - gap.from));
        }
        Ok(())
    }

    /// Has partitions read again whose position in the database is before what was stored.
    async fn look(&mut self) -> Result<bool, Error> {
        let lag = self.consumer.lag();
        self.rewinds.observe(&lag);
        if lag.is_empty() {
            return Ok(true);
        }
        let stored = positions::all(&*self.db.client().await?).await?;
        for lag in lag {
            let Some(done) = lag.done else { continue };
            let next = stored.get(&(lag.topic.to_string(), lag.partition));
            let next = next.map_or(0, |stored| stored.next);
            if next < done {
                tracing::warn!(
                    log.topic = &*lag.topic,
                    log.partition = lag.partition,
                    stored = next,
                    done,
                    "the database was put back; the log is read again from its position"
                );
                self.reached
                    .insert((Arc::clone(&lag.topic), lag.partition), done);
                self.consumer.seek(&lag.topic, lag.partition, next);
            }
        }
        Ok(true)
    }
}

impl Place {
    /// Decides for a partition that stands there in the database, and of which Kafka has that.
    fn of(stored: Option<Stored>, extent: Extent) -> Self {
        let Extent {
            topic_id,
            first,
            end,
            committed,
        } = extent;
        let at = |next, gap| Self {
            next,
            start: next,
            gap,
        };
        let retention = |from| Gap {
            reason: "retention",
            from,
            to: Some(first),
        };
        let Some(Stored {
            next,
            topic_id: before,
        }) = stored
        else {
            // A database that is new to the group has missed what the group has read before.
            let missed = first > 0 && committed.is_some_and(|committed| committed > 0);
            return at(first, missed.then(|| retention(0)));
        };
        let is_same = match (before, topic_id) {
            (Some(before), Some(now)) => before == now,
            _ => next <= end,
        };
        if !is_same {
            let gap = Gap {
                reason: "new_topic",
                from: next,
                to: None,
            };
            return at(first, (next > 0).then_some(gap));
        }
        if next < first {
            return at(first, Some(retention(next)));
        }
        let next = next.min(end);
        let start = committed.filter(|committed| (first..next).contains(committed));
        Self {
            start: start.unwrap_or(next),
            ..at(next, None)
        }
    }
}

impl Gap {
    fn detail(&self, extent: Extent) -> String {
        let Self { from, .. } = self;
        match self.to {
            Some(to) => format!(
                "Kafka no longer has the offsets {from} to {} ({} of them); storing goes on with {to}",
                to - 1,
                to - from
            ),
            None => format!(
                "the topic was deleted and made again: what the old one had from offset {from} on is gone; \
                 storing goes on with offset {} of the new one",
                extent.first
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn extent(first: i64, end: i64, committed: Option<i64>) -> Extent {
        Extent {
            topic_id: Some(Uuid::from_u128(1)),
            first,
            end,
            committed,
        }
    }

    type Seen = (i64, i64, Option<(&'static str, i64, Option<i64>)>);

    fn place(next: Option<i64>, extent: Extent) -> Seen {
        let stored = next.map(|next| Stored {
            next,
            topic_id: Some(Uuid::from_u128(1)),
        });
        let place = Place::of(stored, extent);
        let gap = place.gap.map(|gap| (gap.reason, gap.from, gap.to));
        (place.next, place.start, gap)
    }

    #[test]
    fn a_partition_is_read_from_its_stored_position() {
        assert_eq!(place(Some(50), extent(0, 100, Some(50))), (50, 50, None));
        assert_eq!(
            place(Some(50), extent(0, 100, Some(80))),
            (50, 50, None),
            "put back"
        );
        assert_eq!(
            place(Some(50), extent(0, 100, Some(40))),
            (50, 40, None),
            "not announced"
        );
        assert_eq!(place(Some(50), extent(45, 100, Some(40))), (50, 50, None));
        assert_eq!(
            place(Some(50), extent(0, 100, None)),
            (50, 50, None),
            "another group"
        );
        assert_eq!(
            place(Some(50), extent(0, 30, None)),
            (30, 30, None),
            "it lost its end"
        );
    }

    #[test]
    fn a_partition_that_is_new_to_the_database_is_read_from_its_beginning() {
        assert_eq!(place(None, extent(0, 100, Some(80))), (0, 0, None));
        assert_eq!(
            place(None, extent(20, 100, None)),
            (20, 20, None),
            "a new group"
        );
        let gap = Some(("retention", 0, Some(20)));
        assert_eq!(place(None, extent(20, 100, Some(80))), (20, 20, gap));
    }

    #[test]
    fn what_kafka_no_longer_has_is_a_gap() {
        let gap = Some(("retention", 50, Some(70)));
        assert_eq!(place(Some(50), extent(70, 100, Some(50))), (70, 70, gap));
        assert_eq!(place(Some(50), extent(70, 70, None)), (70, 70, gap));
    }

    #[test]
    fn a_topic_is_known_by_its_id() {
        let of = |next, before: Option<u128>, now: Option<u128>| {
            let stored = Stored {
                next,
                topic_id: before.map(Uuid::from_u128),
            };
            let topic_id = now.map(Uuid::from_u128);
            let place = Place::of(
                Some(stored),
                Extent {
                    topic_id,
                    ..extent(0, 100, Some(60))
                },
            );
            (place.next, place.gap.map(|gap| gap.reason))
        };
        assert_eq!(of(50, Some(1), Some(2)), (0, Some("new_topic")));
        assert_eq!(
            of(0, Some(1), Some(2)),
            (0, None),
            "nothing was stored of the old one"
        );
        // A broker that knows no ids: only an end before the position tells.
        assert_eq!(of(50, Some(1), None), (50, None));
        assert_eq!(of(150, None, None), (0, Some("new_topic")));
    }
}
