//! In which states of projections one event is, and at which of their versions.

use std::collections::HashMap;

use domain::fold::Extensions;
use domain::stream;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::definitions::{self, StoredDefinition};
use super::history::{History, USER};
use super::refold::Folded;
use crate::error::Error;
use crate::event_reads::StoredEvent;
use crate::sql::{Columns, Sql};

/// Events after it, or in the state, that are looked at; beyond them the version is not told.
const LOOKED_THROUGH: i64 = 1_000;

/// What became of an event in a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in the state.
    Folded,
    /// It could not be folded.
    Failed,
    /// It will be in the state once that is built, or refolded.
    Waits,
    /// Too much came after it, or into the state, to tell.
    Unknown,
}

/// A projection that an event concerns.
#[derive(Debug, Clone)]
pub struct OfEvent {
    /// The name of the projection.
    pub name: String,
    /// The number of its definition, among those of its name.
    pub definition_version: i32,
    /// The entity.
    pub entity_id: String,
    /// The type of the entity.
    pub entity_type: String,
    /// What became of the event.
    pub fate: Fate,
    /// Events in the state right after this one, in the order of the entity's stream; `None` unless folded.
    pub version: Option<i64>,
    /// Events in the state now.
    pub current_version: i64,
    /// Why it could not be folded.
    pub error: Option<String>,
}

/// A state, and what came after an event.
struct Standing {
    version: i64,
    error: Option<(String, Uuid)>,
    late: bool,
    /// Later events of the entity, by their types.
    later: HashMap<String, i64>,
}

/// The projections of its tenant that an event concerns, those that are being built among them.
///
/// # Errors
/// The database does not answer.
pub async fn of_event(client: &Client, stored: &StoredEvent) -> Result<Vec<OfEvent>, Error> {
    let event = &stored.event;
    let mut found = vec![];
    for of in definitions::list(client, Some(&event.tenant_id)).await? {
        let entity = of.definition.entity(event);
        let Some(entity_id) = entity.filter(|_| of.definition.takes(&event.event_type)) else {
            continue;
        };
        let standing = standing(client, stored, &of, &entity_id).await?;
        let (fate, version, error) = match &standing {
            Some(standing) if of.state == "live" && !standing.late => {
                fate(client, stored, &of, &entity_id, standing).await?
            }
            _ => (Fate::Waits, None, None),
        };
        found.push(OfEvent {
            name: of.definition.name,
            definition_version: of.version,
            entity_id,
            entity_type: of.definition.entity_type,
            fate,
            version,
            current_version: standing.map_or(0, |standing| standing.version),
            error,
        });
    }
    Ok(found)
}

async fn fate(
    client: &Client,
    stored: &StoredEvent,
    of: &StoredDefinition,
    entity_id: &str,
    standing: &Standing,
) -> Result<(Fate, Option<i64>, Option<String>), Error> {
    let id = stored.event.event_id;
    let later = standing.later.iter();
    let all: i64 = later.clone().map(|(_, count)| count).sum();
    let taken: i64 = later
        .filter(|(event_type, _)| of.definition.takes(event_type))
        .map(|(_, count)| count)
        .sum();
    let told = match &standing.error {
        Some((why, failed)) if *failed == id => (Fate::Failed, None, Some(why.clone())),
        // All that came were folded: those after it are the difference.
        None if all <= LOOKED_THROUGH => (Fate::Folded, Some(standing.version - taken), None),
        None => (Fate::Folded, None, None),
        // Which others could not be folded, only folding tells; reducers are the processor's.
        Some(_) if standing.version <= LOOKED_THROUGH && !of.definition.fold.has_reducer() => {
            let mut history = History::of(&of.tenant_id, &of.definition.entity_type, entity_id);
            let mut folded = Folded::default();
            let rules = Extensions::default();
            folded
                .read_until(client, &rules, of, &mut history, Some(id))
                .await?;
            match folded.error {
                Some((why, failed)) if failed == id => (Fate::Failed, None, Some(why)),
                _ => (Fate::Folded, Some(folded.version), None),
            }
        }
        Some(_) => (Fate::Unknown, None, None),
    };
    Ok(told)
}

/// The state and what came after the event, as one statement sees them: both grow meanwhile.
async fn standing(
    client: &Client,
    stored: &StoredEvent,
    of: &StoredDefinition,
    entity_id: &str,
) -> Result<Option<Standing>, Error> {
    let event = &stored.event;
    let tenant = || of.tenant_id.as_str().to_owned();
    let mut sql = Sql::new(
        "select p.version, p.error, p.error_event_id, p.late, \
         (select coalesce(jsonb_object_agg(l.event_type, l.n), '{}') from \
         (select event_type, count(*) as n from (",
    );
    if of.definition.entity_type == USER {
        History::of(&of.tenant_id, USER, entity_id).after(
            &mut sql,
            event.timestamp,
            event.event_id,
            LOOKED_THROUGH + 1,
        );
    } else {
        sql.push(
            "select e.event_type from event_ids i join events e on e.event_id = i.event_id \
             and e.tenant_id = i.tenant_id and e.timestamp = i.timestamp \
             where i.stream_version is not null and i.tenant_id = ",
        )
        .bind(tenant(), Type::TEXT)
        .push(" and i.stream_id = ")
        .bind(stream::stream_id(event).unwrap_or_default(), Type::TEXT)
        .push(" and i.stream_version > ")
        .bind(stored.stream_version.unwrap_or(0), Type::INT8)
        .push(" limit ")
        .bind(LOOKED_THROUGH + 1, Type::INT8);
    }
    sql.push(
        ") later group by event_type) l)::text from event_projections p where p.definition = ",
    )
    .bind(of.id, Type::INT8)
    .push(" and p.entity_id = ")
    .bind(entity_id.to_owned(), Type::TEXT);
    let rows = sql.rows(client).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let mut columns = Columns::new(row);
    let version = columns.next()?;
    let error: Option<String> = columns.next()?;
    let failed: Option<Uuid> = columns.next()?;
    let late = columns.next()?;
    let later: &str = columns.next()?;
    Ok(Some(Standing {
        version,
        error: error.zip(failed),
        late,
        later: serde_json::from_str(later).unwrap_or_default(),
    }))
}
