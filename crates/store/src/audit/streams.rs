//! The numbers of streams, against those of their events, page by page.

use tokio_postgres::Client;

use super::finding::{Finding, FindingKind, Remedy};
use crate::error::Error;

/// Streams of one slice.
const PAGE: i64 = 1_000;

/// How far the streams were looked at: tenant and stream.
pub type StreamCursor = (String, String);

const PAGE_OF: &str = "with page as materialized ( \
        select tenant_id, stream_id, version from event_streams \
        where (tenant_id, stream_id) > ($1::text, $2::text) order by tenant_id, stream_id limit $3) \
    select p.tenant_id, p.stream_id, p.version, v.most, v.least, v.found from page p, lateral ( \
        select max(stream_version) as most, min(stream_version) as least, count(*) as found \
        from event_ids i where i.tenant_id = p.tenant_id and i.stream_id = p.stream_id \
            and stream_version is not null) v order by 1, 2";

/// What is wrong with the next streams, the cursor after them (none at the end), and how many there are.
/// One whose events were all removed keeps its number, and nothing can be said of it.
///
/// # Errors
/// The database does not answer.
pub async fn streams(
    client: &Client,
    after: Option<&StreamCursor>,
) -> Result<(Vec<Finding>, Option<StreamCursor>, i64), Error> {
    let first = StreamCursor::default();
    let (tenant, stream) = after.unwrap_or(&first);
    let rows = client.query(PAGE_OF, &[tenant, stream, &PAGE]).await?;
    let mut findings = vec![];
    let mut cursor = None;
    for row in &rows {
        let (tenant, stream): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let version: i64 = row.try_get(2)?;
        cursor = Some((tenant.clone(), stream.clone()));
        let (Some(most), Some(least)) = (
            row.try_get::<_, Option<i64>>(3)?,
            row.try_get::<_, Option<i64>>(4)?,
        ) else {
            continue;
        };
        let found: i64 = row.try_get(5)?;
        let mut finding = |kind, expected: i64, found: i64, remedy| {
            findings.push(Finding {
                kind,
                tenant: Some(tenant.clone()),
                subject: format!("stream {stream}"),
                expected: expected.to_string(),
                found: found.to_string(),
                events: vec![],
                remedy,
            });
        };
        if version < most {
            let remedy = Some(Remedy::Stream(stream.clone()));
            finding(FindingKind::StreamBehind, most, version, remedy);
        } else if version > most {
            // Numbers are never given twice: they may have been given.
            finding(FindingKind::StreamAhead, most, version, None);
        }
        if most - least + 1 != found {
            finding(FindingKind::StreamGap, most - least + 1, found, None);
        }
    }
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    Ok((findings, cursor, count))
}
