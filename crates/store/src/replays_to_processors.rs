//! Replays for processors: the events become work of theirs once more.

use domain::{Event, TenantId};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::Error;
use crate::replays::Replay;
use crate::rules::RuleKind;

/// The processors of a tenant, those for all tenants among them.
const OF_TENANT: &str =
    "from event_processors p where coalesce(p.tenant_id, $1) = $1 and p.deleted_at is null";

/// Those of the names that no processor of the tenant has.
///
/// # Errors
/// The database does not answer.
pub async fn unknown(
    client: &Client,
    tenant: &TenantId,
    names: &[String],
) -> Result<Vec<String>, Error> {
    let sql = format!(
        "select name from unnest($2::text[]) name \
         where not exists (select {OF_TENANT} and p.processor_name = name)"
    );
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&tenant.as_str(), Type::TEXT), (&names, Type::TEXT_ARRAY)];
    let rows = client.query_typed(&sql, &parameters).await?;
    Ok(rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?)
}

/// Has the processors of a replay run again with these events; what is still to be done stays as it is.
/// False if none of these processors is there any more.
///
/// # Errors
/// The database does not answer.
pub async fn hand_over(
    client: &Client,
    replay: &Replay,
    names: &[String],
    events: &[Event],
) -> Result<bool, Error> {
    let tenant = replay.tenant_id.as_str();
    if unknown(client, &replay.tenant_id, names).await?.len() == names.len() {
        return Ok(false);
    }
    let ids: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
    let times: Vec<_> = events.iter().map(|event| event.timestamp).collect();
    let sql = format!(
        "insert into work (event_id, tenant_id, rule_id, kind, event_timestamp) \
         select e.id, $1, p.processor_id, $5, e.at \
         from unnest($3::uuid[], $4::timestamptz[]) e(id, at) cross join \
         (select p.processor_id {OF_TENANT} and p.processor_name = any($2)) p \
         on conflict (event_id, tenant_id, rule_id) do nothing"
    );
    let kind = RuleKind::Processor as i16;
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 5] = [
        (&tenant, Type::TEXT),
        (&names, Type::TEXT_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&times, Type::TIMESTAMPTZ_ARRAY),
        (&kind, Type::INT2),
    ];
    client.execute_typed(&sql, &parameters).await?;
    Ok(true)
}
