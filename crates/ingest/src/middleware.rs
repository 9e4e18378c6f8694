//! Steps of a program that embeds the gateway: before and after events are published (S3-51 to S3-53).

use std::sync::Arc;

use domain::envelope::Origin;
use domain::{Context, DecodeError, Event, EventCategory, EventSource, FieldError};
use serde_json::Value;

use crate::accept::{Accepted, Batch, Intake, Refused, Rejected};

/// A step. It is called for every event of every route, and must not block.
pub trait Middleware: Send + Sync + 'static {
    /// Before the event is published: may change it, or refuse it by the field that is wrong. What comes
    /// out of all steps is checked as what comes in is. Its tenant stays as it was.
    ///
    /// # Errors
    /// The event is not to be published: the client gets 422 with that field, or 400 for a value
    /// outside its set.
    fn before_publish(&self, event: Event) -> Result<Event, FieldError> {
        Ok(event)
    }

    /// After the log has acknowledged the events of a request: may change its answer, which is JSON.
    fn after_publish(&self, events: &[Event], answer: Value) -> Value {
        let _ = events;
        answer
    }
}

/// Steps in their order: each gets what the one before it gave. Without any, nothing is done.
#[derive(Clone, Default)]
pub struct Chain(Vec<Arc<dyn Middleware>>);

impl Chain {
    /// Of these steps.
    #[must_use]
    pub fn new(steps: Vec<Arc<dyn Middleware>>) -> Self {
        Self(steps)
    }

    pub(crate) const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The events that the answer is to be changed for; none if there is nothing to change.
    pub(crate) fn noted(&self, accepted: &[Accepted]) -> Vec<Event> {
        if self.0.is_empty() {
            return vec![];
        }
        accepted.iter().map(|one| one.event.clone()).collect()
    }

    /// One event, as the steps leave it.
    pub(crate) fn before(
        &self,
        accepted: Accepted,
        intake: &Intake<'_>,
    ) -> Result<Accepted, Refused> {
        if self.0.is_empty() {
            return Ok(accepted);
        }
        self.changed(accepted, intake).map_err(Refused::from)
    }

    /// A batch: those that a step refuses are left out if they may be, else all are.
    pub(crate) fn before_many(
        &self,
        batch: Batch,
        intake: &Intake<'_>,
        partial: bool,
    ) -> Result<Batch, Refused> {
        if self.0.is_empty() {
            return Ok(batch);
        }
        let events = batch.accepted.len() + batch.rejected.len();
        // The indexes of those that are left: the others have theirs already.
        let taken: Vec<usize> = batch.rejected.iter().map(|one| one.index).collect();
        let free = (0..events).filter(|index| !taken.contains(index));
        let mut all = Batch {
            accepted: vec![],
            rejected: batch.rejected,
        };
        for (index, one) in free.zip(batch.accepted) {
            match self.changed(one, intake) {
                Ok(accepted) => all.accepted.push(accepted),
                Err(error) => {
                    let errors = match error {
                        DecodeError::Fields(errors) => errors,
                        other => vec![FieldError::new(
                            "",
                            domain::Code::OutOfRange,
                            other.to_string(),
                        )],
                    };
                    let reason = errors
                        .first()
                        .map_or("invalid", |error| error.code.as_str());
                    let path = format!("[{index}]");
                    let errors = errors.into_iter().map(|error| error.under(&path)).collect();
                    all.rejected.push(Rejected {
                        index,
                        errors,
                        reason,
                    });
                }
            }
        }
        all.rejected.sort_by_key(|one| one.index);
        if all.rejected.is_empty() || (partial && !all.accepted.is_empty()) {
            return Ok(all);
        }
        let reason = all.rejected.first().map_or("invalid", |one| one.reason);
        let errors = all
            .rejected
            .into_iter()
            .flat_map(|one| one.errors)
            .collect();
        Err(Refused::Elements {
            errors,
            reason,
            events,
        })
    }

    fn changed(&self, accepted: Accepted, intake: &Intake<'_>) -> Result<Accepted, DecodeError> {
        let mut event = accepted.event;
        for step in &self.0 {
            event = step
                .before_publish(event)
                .map_err(|error| DecodeError::Fields(vec![error]))?;
        }
        let canonical = event.to_canonical();
        if canonical == accepted.canonical {
            return Ok(Accepted { event, canonical });
        }
        // As the processor will read it.
        let event = domain::decode(
            &canonical,
            &Context {
                origin: Origin::Log,
                tenant: intake.tenant,
                received_at: intake.received_at,
                now: intake.received_at,
                fresh_id: event.event_id,
                default_source: EventSource::Backend,
                default_category: EventCategory::UserAction,
                content_type: None,
                limits: intake.limits,
            },
        )?;
        Ok(Accepted {
            canonical: event.to_canonical(),
            event,
        })
    }

    /// The answer, as the steps leave it.
    pub(crate) fn after(&self, events: &[Event], answer: Vec<u8>) -> Vec<u8> {
        if self.0.is_empty() {
            return answer;
        }
        let Ok(read) = serde_json::from_slice(&answer) else {
            return answer;
        };
        let changed = self
            .0
            .iter()
            .fold(read, |answer, step| step.after_publish(events, answer));
        // Writing to memory cannot fail.
        serde_json::to_vec(&changed).unwrap_or(answer)
    }
}
