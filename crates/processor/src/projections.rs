//! Builds projections from the history, while the storing transactions fold what comes.

use std::sync::Arc;
use std::time::Duration;

use domain::fold::Extensions;
use domain::{subject, timestamp};
use serde_json::json;
use store::outbox::{Announce, Message, Sinks};
use store::projections::jobs::{self, Step};
use store::projections::{StoredDefinition, refold_late};
use store::{Database, Error};
use uuid::Uuid;

/// How often it is looked for something to do.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same where the database does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// The task that builds.
pub(crate) struct Projections {
    db: Database,
    extensions: Arc<Extensions>,
    announces: Sinks,
    owner: Uuid,
}

impl Projections {
    /// One that leaves `event.projection.created` in the outbox if a relay sends what is there.
    pub(crate) fn new(db: Database, extensions: Arc<Extensions>, announces: Sinks) -> Self {
        Self {
            db,
            extensions,
            announces,
            owner: Uuid::now_v7(),
        }
    }

    /// Builds whatever is to be built, until dropped. What it had begun another goes on with.
    pub(crate) async fn build(self) {
        loop {
            if let Err(error) = self.connected().await {
                tracing::debug!(%error, "projections are not built now");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn connected(&self) -> Result<(), Error> {
        let mut client = self.db.connect().await?;
        loop {
            let Some(mut job) = jobs::claim(&client, self.owner).await? else {
                let late = refold_late(&mut client, &self.extensions).await?;
                if late == 0 {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                continue;
            };
            let created = Announce {
                to: self.announces,
                as_message: created,
            };
            loop {
                let step = jobs::step(&mut client, &self.extensions, &mut job, created).await;
                match step {
                    Ok(Step::More) => {}
                    Ok(Step::Done) => {
                        let StoredDefinition {
                            entities, events, ..
                        } = job.of;
                        tracing::info!(
                            projection = job.of.definition.name,
                            version = job.of.version,
                            entities,
                            events,
                            "{}",
                            if job.of.state == "retired" {
                                "states removed"
                            } else {
                                "built"
                            }
                        );
                        break;
                    }
                    Ok(Step::Lost) => break,
                    Err(error) => {
                        tracing::warn!(
                            projection = job.of.definition.name, %error,
                            "a projection is not built yet, it will be tried again"
                        );
                        jobs::release(&client, &job, Some(&error.to_string())).await?;
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// The announcement that a projection is there (S4-103).
fn created(of: &StoredDefinition) -> Message {
    let payload = json!({
        "projection_name": of.definition.name,
        "entity_type": of.definition.entity_type,
        "entity_id": of.definition.entity_id,
        "definition_version": of.version,
        "created_at": timestamp::format(of.created_at),
    });
    Message {
        tenant_id: of.tenant_id.to_string(),
        subject: subject::PROJECTION_CREATED.to_owned(),
        key: of.definition.name.clone().into_bytes(),
        payload: payload.to_string().into_bytes(),
    }
}
