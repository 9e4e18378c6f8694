//! Ids without their events, and without their streams, page by page.

use std::collections::HashSet;

use time::OffsetDateTime;
use tokio_postgres::Client;
use uuid::Uuid;

use super::finding::{Finding, FindingKind, Remedy};
use crate::error::Error;

/// Ids of one slice.
const PAGE: i64 = 5_000;

/// How far the ids were looked at: id and tenant.
pub type IdCursor = (Uuid, String);

const END: &str = "select event_id, tenant_id, n from ( \
        select event_id, tenant_id, row_number() over (order by event_id, tenant_id) as n from event_ids \
        where (event_id, tenant_id) > ($1, $2::text) order by event_id, tenant_id limit $3) page \
    order by n desc limit 1";

const PAGE_OF: &str = "select i.event_id, i.tenant_id, i.timestamp, i.stream_id, e.event_id is null, \
        i.stream_version is not null and s.stream_id is null \
    from event_ids i \
    left join lateral (select event_id from events e where e.tenant_id = i.tenant_id \
        and e.timestamp = i.timestamp and e.event_id = i.event_id) e on true \
    left join lateral (select stream_id from event_streams s where s.tenant_id = i.tenant_id \
        and s.stream_id = i.stream_id) s on true \
    where (i.event_id, i.tenant_id) > ($1, $2::text) and (i.event_id, i.tenant_id) <= ($3, $4::text) \
        and (e.event_id is null or i.stream_version is not null and s.stream_id is null)";

/// What is wrong with the next ids, the cursor after them (none at the end), and how many there are.
/// `misplaced` are known to be elsewhere; `within` are the times looked at.
///
/// # Errors
/// The database does not answer.
pub async fn ids(
    client: &Client,
    after: Option<&IdCursor>,
    misplaced: &HashSet<Uuid>,
    within: (Option<OffsetDateTime>, Option<OffsetDateTime>),
) -> Result<(Vec<Finding>, Option<IdCursor>, i64), Error> {
    let first = (Uuid::nil(), String::new());
    let (id, tenant) = after.unwrap_or(&first);
    let Some(row) = client.query_opt(END, &[id, tenant, &PAGE]).await? else {
        return Ok((vec![], None, 0));
    };
    let end: IdCursor = (row.try_get(0)?, row.try_get(1)?);
    let mut findings = vec![];
    let mut missing = HashSet::new();
    for row in client.query(PAGE_OF, &[id, tenant, &end.0, &end.1]).await? {
        let (id, tenant): (Uuid, String) = (row.try_get(0)?, row.try_get(1)?);
        let at: OffsetDateTime = row.try_get(2)?;
        if within.0.is_some_and(|from| at < from) || within.1.is_some_and(|until| at >= until) {
            continue;
        }
        let stream: Option<String> = row.try_get(3)?;
        if row.try_get(4)? && !misplaced.contains(&id) {
            findings.push(Finding {
                kind: FindingKind::RowLost,
                tenant: Some(tenant.clone()),
                subject: format!("event {id}"),
                expected: domain::timestamp::format(at),
                found: "no row".to_owned(),
                events: vec![id],
                remedy: None,
            });
        }
        if let (true, Some(stream)) = (row.try_get(5)?, stream)
            && missing.insert((tenant.clone(), stream.clone()))
        {
            findings.push(Finding {
                kind: FindingKind::StreamMissing,
                tenant: Some(tenant),
                subject: format!("stream {stream}"),
                expected: "a row".to_owned(),
                found: "none".to_owned(),
                events: vec![id],
                remedy: Some(Remedy::Stream(stream)),
            });
        }
    }
    Ok((findings, Some(end), row.try_get(2)?))
}
