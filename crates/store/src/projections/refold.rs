//! Refolds the state of an entity, from its first event on, while others fold what comes.

use domain::fold::{Extensions, State};
use time::OffsetDateTime;
use tokio_postgres::Client;
use uuid::Uuid;

use super::definitions::{self, StoredDefinition};
use super::history::History;
use crate::error::Error;
use crate::event_reads::StoredEvent;

/// The holder of the row folds next; it is made if it is not there.
const LOCK: &str = "insert into event_projections (tenant_id, projection_name, entity_type, entity_id, \
        definition, definition_version) values ($1, $2, $3, $4, $5, $6) \
    on conflict (definition, entity_id) do update set updated_at = now()";

const SET: &str = "update event_projections set state = $3, version = $4, last_event_id = $5, \
        last_event_time = $6, error = $7, error_event_id = $8, late = false, updated_at = now() \
    where definition = $1 and entity_id = $2";

const REMOVE: &str = "delete from event_projections where definition = $1 and entity_id = $2";

const LATE: &str = "select definition, entity_id from event_projections where late \
    and definition in (select id from projection_definitions where state <> 'retired') limit 100";

/// What comes out of a history.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    pub(crate) state: State,
    pub(crate) version: i64,
    pub(crate) last: Option<(OffsetDateTime, Uuid)>,
    pub(crate) error: Option<(String, Uuid)>,
    seen: i64,
}

impl Folded {
    /// Folds what is left of a history.
    async fn read(
        &mut self,
        client: &Client,
        extensions: &Extensions,
        of: &StoredDefinition,
        history: &mut History<'_>,
    ) -> Result<(), Error> {
        self.read_until(client, extensions, of, history, None)
            .await?;
        Ok(())
    }

    /// Folds up to and with that event; `false` if it is none of the history, all of which is folded then.
    pub(super) async fn read_until(
        &mut self,
        client: &Client,
        extensions: &Extensions,
        of: &StoredDefinition,
        history: &mut History<'_>,
        until: Option<Uuid>,
    ) -> Result<bool, Error> {
        loop {
            let events = history.next(client).await?;
            if events.is_empty() {
                return Ok(false);
            }
            let last = events
                .iter()
                .position(|one| Some(one.event.event_id) == until);
            let taken = last.map_or(events.len(), |last| last + 1);
            self.fold(of, extensions, &events[..taken]);
            if last.is_some() {
                return Ok(true);
            }
        }
    }

    fn fold(&mut self, of: &StoredDefinition, extensions: &Extensions, events: &[StoredEvent]) {
        for StoredEvent { event, .. } in events {
            self.seen += 1;
            if !of.definition.takes(&event.event_type) {
                continue;
            }
            let fold = &of.definition.fold;
            match fold.apply(extensions, &mut self.state, event) {
                Ok(()) => {
                    self.version += 1;
                    self.last = Some((event.timestamp, event.event_id));
                }
                Err(error) => self.error = Some((error.to_string(), event.event_id)),
            }
        }
    }

    fn is_nothing(&self) -> bool {
        self.version == 0 && self.error.is_none()
    }
}

/// The state that the history of an entity comes to, all of it or up to and with that event, with the number
/// of its events and the error of the last that could not be folded; `None` if there is nothing, or no such
/// event.
///
/// # Errors
/// The database does not answer.
pub async fn preview(
    client: &Client,
    extensions: &Extensions,
    of: &StoredDefinition,
    entity_id: &str,
    until: Option<Uuid>,
) -> Result<Option<(State, i64, Option<String>)>, Error> {
    let mut history = History::of(&of.tenant_id, &of.definition.entity_type, entity_id);
    let mut folded = Folded::default();
    let found = folded
        .read_until(client, extensions, of, &mut history, until)
        .await?;
    let Folded {
        state,
        version,
        error,
        ..
    } = folded;
    let some = (found || until.is_none()) && (version > 0 || error.is_some());
    Ok(some.then(|| (state, version, error.map(|(why, _)| why))))
}

/// Folds the whole history of an entity, and puts the result in the place of its state, which goes where
/// nothing is left of it; returns how many events there are. Reads ahead without a lock, so that a writer waits only for what came meanwhile.
///
/// # Errors
/// The database does not answer.
pub async fn refold(
    client: &mut Client,
    extensions: &Extensions,
    of: &StoredDefinition,
    entity_id: &str,
) -> Result<i64, Error> {
    let entity_type = of.definition.entity_type.as_str();
    let mut history = History::of(&of.tenant_id, entity_type, entity_id);
    let mut folded = Folded::default();
    folded.read(client, extensions, of, &mut history).await?;
    let tx = client.transaction().await?;
    tx.execute(
        LOCK,
        &[
            &of.tenant_id.as_str(),
            &of.definition.name,
            &entity_type,
            &entity_id,
            &of.id,
            &of.version,
        ],
    )
    .await?;
    // Who folded into the row before has committed; the next one waits for this transaction.
    if !history.is_whole(tx.client()).await? {
        history = History::of(&of.tenant_id, entity_type, entity_id);
        folded = Folded::default();
    }
    folded
        .read(tx.client(), extensions, of, &mut history)
        .await?;
    if folded.is_nothing() {
        tx.execute(REMOVE, &[&of.id, &entity_id]).await?;
        tx.commit().await?;
        return Ok(folded.seen);
    }
    let (last_time, last_id) = folded.last.unzip();
    let (error, error_event) = folded.error.unzip();
    tx.execute(
        SET,
        &[
            &of.id,
            &entity_id,
            &serde_json::Value::Object(folded.state),
            &folded.version,
            &last_id.map(|id| id.to_string()),
            &last_time,
            &error,
            &error_event,
        ],
    )
    .await?;
    tx.commit().await?;
    Ok(folded.seen)
}

/// Refolds the states in which an event is missing because it came after others that it happened
/// before; returns how many there were, a hundred at most.
///
/// # Errors
/// The database does not answer.
pub async fn refold_late(client: &mut Client, extensions: &Extensions) -> Result<usize, Error> {
    let late = client.query(LATE, &[]).await?;
    for row in &late {
        let (id, entity): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(of) = definitions::by_id(client, id).await? {
            refold(client, extensions, &of, &entity).await?;
        }
    }
    Ok(late.len())
}
