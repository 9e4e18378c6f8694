//! The states of projections, against what the events of their entities come to.

use domain::fold::Extensions;
use serde_json::Value;
use tokio_postgres::Client;

use super::finding::{Finding, FindingKind, Remedy};
use crate::error::Error;
use crate::projections::{StoredDefinition, definitions, entities_after, preview};

/// An entity that is folded into meanwhile is looked at so often.
const LOOKS: usize = 3;

const STATE: &str = "select version, late, state = $3 from event_projections \
    where definition = $1 and entity_id = $2";

/// The projections that are live, of all tenants.
///
/// # Errors
/// The database does not answer.
pub async fn projections(client: &Client) -> Result<Vec<StoredDefinition>, Error> {
    let mut all = definitions::list(client, None).await?;
    all.retain(|one| one.state == "live");
    Ok(all)
}

/// What is wrong with the states of the next entities, the cursor after them (none at the end), and how
/// many there are.
///
/// # Errors
/// The database does not answer.
pub async fn states(
    client: &Client,
    extensions: &Extensions,
    of: &StoredDefinition,
    after: Option<&str>,
) -> Result<(Vec<Finding>, Option<String>, i64), Error> {
    let (entities, cursor) = entities_after(client, of, after).await?;
    let mut findings = vec![];
    for entity in &entities {
        if let Some(finding) = state(client, extensions, of, entity).await? {
            findings.push(finding);
        }
    }
    let count = i64::try_from(entities.len()).unwrap_or(i64::MAX);
    Ok((findings, cursor, count))
}

async fn state(
    client: &Client,
    extensions: &Extensions,
    of: &StoredDefinition,
    entity: &str,
) -> Result<Option<Finding>, Error> {
    let mut last = None;
    for _ in 0..LOOKS {
        let folded = preview(client, extensions, of, entity, None).await?;
        let (state, version) =
            folded.map_or((None, 0), |(state, version, _)| (Some(state), version));
        let state = Value::Object(state.unwrap_or_default());
        let row = client.query_opt(STATE, &[&of.id, &entity, &state]).await?;
        let (found, late, same) = match row {
            Some(row) => (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
            None => (0_i64, false, version == 0),
        };
        // One that is late is about to be refolded.
        if late || same && found == version {
            return Ok(None);
        }
        // It may have been folded into between the two looks: then it is another one next time.
        if last == Some((found, version)) {
            return Ok(Some(Finding {
                kind: FindingKind::Projection,
                tenant: Some(of.tenant_id.as_str().to_owned()),
                subject: format!(
                    "{} of {}:{entity}",
                    of.definition.name, of.definition.entity_type
                ),
                expected: format!("{version} events, {state}"),
                found: if found == version {
                    format!("{found} events, another state")
                } else {
                    format!("{found} events")
                },
                events: vec![],
                remedy: Some(Remedy::Projection(of.id, entity.to_owned())),
            }));
        }
        last = Some((found, version));
    }
    Ok(None)
}
