//! The step `projections`: folds the new events into the read models they concern. Without a definition
//! it costs nothing; which there are is read when the version of the rules has moved.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use domain::Event;
use domain::fold::{Extensions, State};
use time::OffsetDateTime;
use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use super::pending::Pending;
use crate::error::Error;
use crate::projections::USER;
use crate::projections::definitions::{self, StoredDefinition};

/// Event types remembered; with more, all are forgotten and matched again.
const REMEMBERED: usize = 10_000;

/// Locks, makes and reads the states, in sorted order.
const LOCK: &str = "insert into event_projections as p (tenant_id, projection_name, entity_type, \
        entity_id, definition, definition_version) \
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::int4[]) \
        u(tenant_id, name, entity_type, entity_id, definition, version) order by definition, entity_id \
    on conflict (definition, entity_id) do update set updated_at = now() \
    returning definition, entity_id, state::text, version, last_event_time, last_event_id";

const SET: &str = "update event_projections p set state = coalesce(u.state::jsonb, p.state), \
        version = u.version, last_event_time = u.last_time, last_event_id = u.last_id, \
        error = coalesce(u.error, p.error), \
        error_event_id = coalesce(u.error_event, p.error_event_id), late = p.late or u.late \
    from unnest($1::int8[], $2::text[], $3::text[], $4::int8[], $5::timestamptz[], $6::text[], \
        $7::text[], $8::uuid[], $9::bool[]) \
        u(definition, entity_id, state, version, last_time, last_id, error, error_event, late) \
    where p.definition = u.definition and p.entity_id = u.entity_id";

/// What a writer knows of the definitions.
pub(super) struct Projections {
    lock: Statement,
    set: Statement,
    pub(super) extensions: Arc<Extensions>,
    /// The version of the rules they were read at.
    version: Option<Uuid>,
    definitions: Vec<StoredDefinition>,
    /// Which of them an event type concerns.
    of_type: HashMap<String, Vec<usize>>,
}

impl std::fmt::Debug for Projections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projections")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A state on its way through a batch.
struct Row {
    state: State,
    version: i64,
    last: Option<(OffsetDateTime, Uuid)>,
    error: Option<(String, Uuid)>,
    late: bool,
    changed: bool,
}

impl Projections {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            lock: client.prepare(LOCK).await?,
            set: client.prepare(SET).await?,
            extensions: Arc::default(),
            version: None,
            definitions: vec![],
            of_type: HashMap::new(),
        })
    }

    /// Folds the new events, under the rules of that version.
    pub(super) async fn fold(
        &mut self,
        tx: &Transaction<'_>,
        version: Uuid,
        new: &[Pending<'_>],
    ) -> Result<(), Error> {
        if self.version != Some(version) {
            self.definitions = definitions::list(tx, None).await?;
            self.of_type.clear();
            self.version = Some(version);
        }
        let concerned = self.concerned(new);
        if concerned.is_empty() {
            return Ok(());
        }
        let mut rows = self.locked(tx, &concerned).await?;
        for ((index, entity), mut events) in concerned {
            let Some(of) = self.definitions.get(index) else {
                continue;
            };
            let by_time = of.definition.entity_type == USER;
            events.sort_by_key(|one| {
                let number = one.version.filter(|_| !by_time);
                let time = by_time.then_some((one.event.timestamp, one.event.event_id));
                (number, time)
            });
            let Some(row) = rows.get_mut(&(of.id, entity)) else {
                return Err(Error::Conflict(
                    "a projection has lost its state".to_owned(),
                ));
            };
            for Pending { event, .. } in events {
                row.fold(of, &self.extensions, event, by_time);
            }
        }
        self.set(tx, rows).await
    }

    /// The events by definition and entity.
    fn concerned<'p, 'e>(
        &mut self,
        new: &'p [Pending<'e>],
    ) -> BTreeMap<(usize, String), Vec<&'p Pending<'e>>> {
        let mut concerned: BTreeMap<_, Vec<_>> = BTreeMap::new();
        if self.definitions.is_empty() {
            return concerned;
        }
        if self.of_type.len() > REMEMBERED {
            self.of_type.clear();
        }
        for pending in new {
            let event = pending.event;
            if !self.of_type.contains_key(&event.event_type) {
                let all = self.definitions.iter().enumerate();
                let takes = all.filter(|(_, of)| of.definition.takes(&event.event_type));
                let indexes = takes.map(|(index, _)| index).collect();
                self.of_type.insert(event.event_type.clone(), indexes);
            }
            for &index in self.of_type.get(&event.event_type).into_iter().flatten() {
                let of = self.definitions.get(index);
                let of = of.filter(|of| of.tenant_id == event.tenant_id);
                if let Some(entity) = of.and_then(|of| of.definition.entity(event)) {
                    concerned.entry((index, entity)).or_default().push(pending);
                }
            }
        }
        concerned
    }

    /// The states, locked until the commit.
    async fn locked(
        &self,
        tx: &Transaction<'_>,
        concerned: &BTreeMap<(usize, String), Vec<&Pending<'_>>>,
    ) -> Result<HashMap<(i64, String), Row>, Error> {
        let (mut tenants, mut names, mut types) = (vec![], vec![], vec![]);
        let (mut entities, mut ids, mut versions) = (vec![], vec![], vec![]);
        for (index, entity) in concerned.keys() {
            if let Some(of) = self.definitions.get(*index) {
                tenants.push(of.tenant_id.as_str());
                names.push(of.definition.name.as_str());
                types.push(of.definition.entity_type.as_str());
                entities.push(entity.as_str());
                ids.push(of.id);
                versions.push(of.version);
            }
        }
        let found = tx
            .query(
                &self.lock,
                &[&tenants, &names, &types, &entities, &ids, &versions],
            )
            .await?;
        let mut rows = HashMap::with_capacity(found.len());
        for row in &found {
            let state: &str = row.try_get(2)?;
            let time: Option<OffsetDateTime> = row.try_get(4)?;
            let id: Option<&str> = row.try_get(5)?;
            let id = id.and_then(|id| Uuid::parse_str(id).ok());
            let row_of = Row {
                state: serde_json::from_str(state).unwrap_or_default(),
                version: row.try_get(3)?,
                last: time.zip(id),
                error: None,
                late: false,
                changed: false,
            };
            rows.insert((row.try_get(0)?, row.try_get(1)?), row_of);
        }
        Ok(rows)
    }

    async fn set(
        &self,
        tx: &Transaction<'_>,
        rows: HashMap<(i64, String), Row>,
    ) -> Result<(), Error> {
        let (mut ids, mut entities, mut states) = (vec![], vec![], vec![]);
        let (mut versions, mut times, mut last_ids) = (vec![], vec![], vec![]);
        let (mut errors, mut error_events, mut late) = (vec![], vec![], vec![]);
        for ((id, entity), row) in rows {
            ids.push(id);
            entities.push(entity);
            // What did not change is not sent.
            states.push(
                row.changed
                    .then(|| serde_json::Value::Object(row.state).to_string()),
            );
            versions.push(row.version);
            let (time, last_id) = row.last.unzip();
            times.push(time);
            last_ids.push(last_id.map(|id| id.to_string()));
            let (error, error_event) = row.error.unzip();
            errors.push(error);
            error_events.push(error_event);
            late.push(row.late);
        }
        tx.execute(
            &self.set,
            &[
                &ids,
                &entities,
                &states,
                &versions,
                &times,
                &last_ids,
                &errors,
                &error_events,
                &late,
            ],
        )
        .await?;
        Ok(())
    }
}

impl Row {
    fn fold(
        &mut self,
        of: &StoredDefinition,
        extensions: &Extensions,
        event: &Event,
        by_time: bool,
    ) {
        let fold = &of.definition.fold;
        let at = (event.timestamp, event.event_id);
        let is_late = by_time && self.last.is_some_and(|last| at < last);
        if is_late && fold.is_ordered() {
            self.late = true;
            return;
        }
        match fold.apply(extensions, &mut self.state, event) {
            Ok(()) => {
                self.changed = true;
                self.version += 1;
                if !is_late {
                    self.last = Some(at);
                }
            }
            Err(error) => self.error = Some((error.to_string(), event.event_id)),
        }
    }
}
