//! Which entities of a type there are, page by page.

use domain::TenantId;
use tokio_postgres::Client;

use super::definitions::StoredDefinition;
use super::history::USER;
use crate::error::Error;

/// Entities found at once.
const PAGE: i64 = 100;

/// Those with a stream of their own, after an id. Streams of one type stand together.
const STREAMS: &str = "select entity_id from event_streams where tenant_id = $1 \
    and stream_id > $2 || ':' || $3 and stream_id < $2 || ';' order by stream_id limit $4";

/// Users with events, after an id: one step of the index for each.
const USERS: &str = "with recursive users as ( \
        (select user_id, 1 as n from events where user_id > $1 order by user_id limit 1) \
        union all \
        select (select e.user_id from events e where e.user_id > u.user_id order by e.user_id limit 1), \
            u.n + 1 from users u where u.user_id is not null and u.n < $2 \
    ) select user_id from users where user_id is not null";

/// How many have a stream of their own; `None` for users, who are counted as they are found.
pub(super) async fn total(
    client: &Client,
    tenant: &TenantId,
    of: &StoredDefinition,
) -> Result<Option<i64>, Error> {
    let kind = &of.definition.entity_type;
    if of.definition.entity_id.is_some() {
        return Ok(Some(1));
    }
    if kind == USER {
        return Ok(None);
    }
    let count = "select count(*) from event_streams where tenant_id = $1 \
        and stream_id >= $2 || ':' and stream_id < $2 || ';'";
    let row = client.query_one(count, &[&tenant.as_str(), kind]).await?;
    Ok(Some(row.try_get(0)?))
}

/// The entities after a cursor, and the cursor after them; no cursor at the end.
pub(crate) async fn page(
    client: &Client,
    of: &StoredDefinition,
    cursor: Option<&str>,
) -> Result<(Vec<String>, Option<String>), Error> {
    if let Some(id) = &of.definition.entity_id {
        let first = cursor.is_none().then(|| id.clone());
        return Ok((first.clone().into_iter().collect(), first));
    }
    let kind = of.definition.entity_type.as_str();
    // The streams of a type first; of users, then those without one.
    let (phase, after) = cursor.map_or(("s", ""), |cursor| cursor.split_at(1));
    let mut ids: Vec<String> = vec![];
    if phase == "s" {
        let tenant = of.tenant_id.as_str();
        let rows = client
            .query(STREAMS, &[&tenant, &kind, &after, &PAGE])
            .await?;
        ids.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        if let Some(last) = ids.last() {
            let cursor = format!("s{last}");
            return Ok((ids, Some(cursor)));
        }
        if kind != USER {
            return Ok((ids, None));
        }
    }
    let after = if phase == "s" { "" } else { after };
    let rows = client
        .query(USERS, &[&after, &(i32::try_from(PAGE).unwrap_or(100))])
        .await?;
    ids.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    let cursor = ids.last().map(|last| format!("u{last}"));
    Ok((ids, cursor))
}
