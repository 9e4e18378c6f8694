//! Dry runs of replays: the events, and what would change.

use std::collections::BTreeSet;

use actix_web::HttpResponse;
use domain::fold::Extensions;
use serde::Serialize;
use serde_json::{Value, json};
use service::{EventResponse, Problem};
use store::event_reads::StoredEvent;
use store::pool::Client;
use store::projections::{definitions, preview, reads};
use store::replays::{self, MAX_EVENTS, Request};
use utoipa::ToSchema;

use super::listing;
use crate::state::State;

/// Entities whose states a dry run shows.
const SHOWN_STATES: usize = 50;

/// What a replay would do (S4-35).
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayPreview<'a> {
    /// Always true.
    pub dry_run: bool,
    /// How many events it is about.
    pub events_count: i64,
    /// The first of them, in the order in which they would be replayed.
    pub events: Vec<EventResponse<'a>>,
    /// The topic they would go to; null if projections would be refolded.
    #[schema(required = true)]
    pub topic: Option<String>,
    /// The processors that would run with them.
    pub processors: Vec<String>,
    /// The users who would be shown those of the events shown that name them, as far as they listen.
    pub live: Vec<String>,
    /// The states that would be refolded, of the entities of the events shown.
    pub projections: Vec<StateChange>,
}

/// A state before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateChange {
    /// The projection.
    pub projection_name: String,
    /// The type of the entity.
    pub entity_type: String,
    /// The entity.
    pub entity_id: String,
    /// Whether the state would be another.
    pub changes: bool,
    /// The state now, with `state`, `version` and `error`; null if there is none.
    #[schema(value_type = Option<Object>, required = true)]
    pub before: Option<Value>,
    /// The state afterwards. Reducers and upcasters in Rust are known to the processor alone.
    #[schema(value_type = Option<Object>, required = true)]
    pub after: Option<Value>,
}

/// Answers with what would be done.
pub(super) async fn answer(
    state: &State,
    asked: &Request,
    limit: u32,
) -> Result<Result<HttpResponse, i64>, Problem> {
    let (count, events, projections) = state
        .read("replay", async |client| {
            let (count, events) = replays::preview(client, asked, i64::from(limit)).await?;
            let others = asked.live || asked.target_service.is_some() || asked.processors.is_some();
            let states = if others {
                vec![]
            } else {
                changes(client, asked, &events).await?
            };
            Ok((count, events, states))
        })
        .await?;
    if !(1..=MAX_EVENTS).contains(&count) {
        return Ok(Err(count));
    }
    let service = asked.target_service.as_deref();
    let users = events.iter().filter(|_| asked.live);
    let users: BTreeSet<&String> = users.filter_map(|one| one.event.user_id.as_ref()).collect();
    let answer = ReplayPreview {
        dry_run: true,
        events_count: count,
        events: events.iter().map(listing::response).collect(),
        topic: service.map(domain::subject::replay_topic),
        processors: asked.processors.clone().unwrap_or_default(),
        live: users.into_iter().cloned().collect(),
        projections,
    };
    Ok(Ok(state.answer(state.hold(0)?, &answer)?))
}

/// The states of the entities of these events, as they are and as they would be.
async fn changes(
    client: &Client,
    asked: &Request,
    events: &[StoredEvent],
) -> Result<Vec<StateChange>, store::Error> {
    let mut changes: Vec<StateChange> = vec![];
    let wanted = |name: &String| {
        asked
            .projections
            .as_ref()
            .is_none_or(|of| of.contains(name))
    };
    for of in definitions::list(&***client, Some(&asked.tenant_id)).await? {
        let definition = &of.definition;
        if of.state != "live" || !wanted(&definition.name) {
            continue;
        }
        let concerned = events
            .iter()
            .filter(|one| definition.takes(&one.event.event_type));
        let entities = concerned.filter_map(|one| definition.entity(&one.event));
        let entities: BTreeSet<String> = entities.collect();
        for entity_id in entities {
            if changes.len() >= SHOWN_STATES {
                return Ok(changes);
            }
            let filter = reads::Filter {
                name: Some(definition.name.clone()),
                entity_id: Some(entity_id.clone()),
                limit: 1,
                ..reads::Filter::default()
            };
            let kind = &definition.entity_type;
            let now = reads::list(client, &asked.tenant_id, kind, &filter, usize::MAX).await?;
            let before = now.rows.first().map(
                |p| json!({"state": p.state.to_value(), "version": p.version, "error": p.error}),
            );
            let after = preview(client, &Extensions::default(), &of, &entity_id, None).await?;
            let after = after.map(|(state, version, error)| {
                json!({"state": state, "version": version, "error": error})
            });
            changes.push(StateChange {
                projection_name: definition.name.clone(),
                entity_type: kind.clone(),
                entity_id,
                changes: before != after,
                before,
                after,
            });
        }
    }
    Ok(changes)
}
