//! What names a user beside the events: erased in one transaction, or said.

use domain::TenantId;
use domain::redriven::header_value;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::requests::Erasure;
use super::tombstones::{Bytes, is_before};
use crate::error::Error;
use crate::log::LOG;
use crate::outbox::Sink;
use crate::rules;
use crate::user_counts;

/// Rows looked at together.
const PAGE: i64 = 200;

/// Those that could name the user: with the very bytes, in an escape of JSON, or in an earlier payload.
const LETTERS: &str = "select id, key, headers::text, payload, history, timestamp_ms from dead_letters \
    where tenant_id = $1::text and id > $2 and (position($3::bytea in payload) > 0 \
        or position('\\x5c75'::bytea in payload) > 0 or position($3::bytea in key) > 0 \
        or position($3::bytea in convert_to(headers::text, 'UTF8')) > 0 \
        or headers::text like '%base64:%' or history <> '[]') \
    order by id limit $4";

const MESSAGES: &str = "select id, key, '[]', payload, null::jsonb, null::int8 from outbox \
    where sink = $6 and tenant_id = $1::text and id > $2 and created_at <= $5 \
        and (position($3::bytea in payload) > 0 or position('\\x5c75'::bytea in payload) > 0) \
    order by id limit $4";

/// The state of the user itself, even one that no event was folded into.
const STATE: &str = "update event_projections p set late = true from projection_definitions d \
    where d.tenant_id = $1::text and d.entity_type = 'user' and p.definition = d.id \
        and p.entity_id = $2::text and not p.late";

/// The number of the last event of the user's stream, once it has no event any more.
const STREAM: &str = "delete from event_streams where tenant_id = $1::text \
    and stream_id = 'user:' || $2::text and not exists (select from event_ids \
        where tenant_id = $1::text and stream_id = 'user:' || $2::text and stream_version is not null)";

/// What rows about something else say of the user.
const WORDS: [(&str, &str); 4] = [
    (
        "replays",
        "update replays set selection = jsonb_set(selection, '{stream_id}', '\"user:(erased)\"') \
         where tenant_id = $1::text and selection ->> 'stream_id' = 'user:' || $2::text",
    ),
    (
        "projection_definitions",
        "update projection_definitions set cursor = null \
         where tenant_id = $1::text and cursor = $2::text and state <> 'building'",
    ),
    (
        "audit_findings",
        "delete from audit_findings where tenant = $1::text and (position($2::text in subject) > 0 \
         or position($2::text in expected) > 0 or position($2::text in found) > 0)",
    ),
    (
        "event_processors",
        "update event_processors set last_error = null \
         where coalesce(tenant_id, $1::text) = $1::text and position($2::text in last_error) > 0",
    ),
];

/// What an administrator wrote down and has to decide about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Names of subscriptions that name the user.
    pub subscriptions: Vec<String>,
    /// Names of projections that are about the user alone.
    pub projections: Vec<String>,
}

/// Erases what names the user beside the events. False if another has the erasure.
///
/// # Errors
/// The database does not answer, or a storing transaction takes too long; nothing of it is erased.
pub async fn remains(
    client: &mut Client,
    owner: Uuid,
    erasure: &mut Erasure,
) -> Result<bool, Error> {
    let mut next = erasure.clone();
    let tx = client.transaction().await?;
    let (tenant, user) = (next.tenant.as_str().to_owned(), next.user().to_owned());
    let has_stream = "select exists (select from event_streams where tenant_id = $1::text \
        and stream_id = 'user:' || $2::text)";
    let who: [&(dyn ToSql + Sync); 2] = [&tenant, &user];
    if tx.query_one(has_stream, &who).await?.try_get(0)? {
        // Nobody numbers an event of the stream meanwhile.
        rules::change(&tx).await?;
        next.add("event_streams", tx.execute(STREAM, &who).await?);
    }
    for (place, sql) in WORDS {
        next.add(place, tx.execute(sql, &who).await?);
    }
    next.add("projections", tx.execute(STATE, &who).await?);
    let days = user_counts::erase(&tx, &tenant, &user, next.counts).await?;
    next.add("user_days", days);
    let erased = naming(&tx, &next, LETTERS, None).await?;
    next.add("dead_letters", erased);
    for sink in [Sink::Kafka, Sink::Nats] {
        let erased = naming(&tx, &next, MESSAGES, Some(sink)).await?;
        next.add("outbox", erased);
    }
    if !next.note(&tx, owner).await? {
        return Ok(false);
    }
    tx.commit().await?;
    *erasure = next;
    Ok(true)
}

/// Deletes the rows whose bytes name the user: of the messages for a sink, else of the dead letters.
async fn naming(
    tx: &Transaction<'_>,
    of: &Erasure,
    sql: &str,
    sink: Option<Sink>,
) -> Result<u64, Error> {
    let number = sink.map(|sink| sink as i16);
    let user = of.user();
    let (mut after, mut gone) = (0_i64, vec![]);
    loop {
        let bytes = user.as_bytes();
        let tenant = of.tenant.as_str();
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&tenant, &after, &bytes, &PAGE];
        if let Some(number) = &number {
            values.extend([&of.until as &(dyn ToSql + Sync), number]);
        }
        let rows = tx.query(sql, &values).await?;
        for row in &rows {
            let headers: &str = row.try_get(2)?;
            let headers: Vec<(String, String)> = serde_json::from_str(headers).unwrap_or_default();
            let headers = headers.into_iter().map(|(name, value)| {
                let value = String::from_utf8_lossy(&header_value(&value)).into_owned();
                (name, value)
            });
            let history: Option<serde_json::Value> = row.try_get(4)?;
            let before = history
                .iter()
                .flat_map(payloads_before)
                .map(|text| (String::new(), text));
            let bytes = Bytes {
                key: row.try_get(1)?,
                headers: &headers.chain(before).collect::<Vec<_>>(),
                payload: row.try_get(3)?,
            };
            let written: Option<i64> = row.try_get(5)?;
            if is_before(written, of.until) && bytes.users().any(|named| named == user) {
                gone.push(row.try_get::<_, i64>(0)?);
            }
        }
        match rows.last() {
            Some(last) => after = last.try_get(0)?,
            None => break,
        }
    }
    let deleted = match number {
        None => {
            let delete = "delete from dead_letters where id = any($1)";
            tx.execute(delete, &[&gone]).await?
        }
        Some(number) => {
            let delete = "delete from outbox where sink = $2 and id = any($1)";
            tx.execute(delete, &[&gone, &number]).await?
        }
    };
    Ok(deleted)
}

/// The payloads that a dead letter had before it was changed.
fn payloads_before(history: &serde_json::Value) -> Vec<String> {
    let actions = history.as_array().into_iter().flatten();
    let texts = actions.filter_map(|action| action["payload_before"].as_str());
    texts
        .map(|text| String::from_utf8_lossy(&header_value(&format!("base64:{text}"))).into_owned())
        .collect()
}

/// Whether the log on PostgreSQL still has records that were accepted before. They are dropped when it is
/// their turn.
///
/// # Errors
/// The database does not answer.
pub async fn log_waits(client: &Client, erasure: &Erasure) -> Result<bool, Error> {
    let sql = format!(
        "select exists (select from log_positions p cross join lateral ( \
             select created_at from event_log l \
             where l.partition = p.partition::int2 and l.id >= p.stored order by l.id limit 1 \
         ) first where p.topic = '{LOG}' and first.created_at <= $1)"
    );
    Ok(client
        .query_one(&sql, &[&erasure.until])
        .await?
        .try_get(0)?)
}

/// The services that replays of the tenant handed events to, and the topics of its processors.
///
/// # Errors
/// The database does not answer.
pub async fn handed_to(
    client: &Client,
    tenant: &TenantId,
) -> Result<(Vec<String>, Vec<String>), Error> {
    let services = "select distinct target_service::text from replays \
        where tenant_id = $1::text and target_service is not null order by 1";
    let topics = "select distinct config ->> 'topic' from event_processors \
        where tenant_id = $1::text and config ->> 'topic' is not null order by 1";
    let mut found = [vec![], vec![]];
    for (names, sql) in found.iter_mut().zip([services, topics]) {
        for row in client.query(sql, &[&tenant.as_str()]).await? {
            names.push(row.try_get(0)?);
        }
    }
    let [services, topics] = found;
    Ok((services, topics))
}

/// What else names the user, and stays.
///
/// # Errors
/// The database does not answer.
pub async fn left(client: &Client, erasure: &Erasure) -> Result<Left, Error> {
    let subscriptions = "select subscriber_name::text from event_subscriptions \
        where tenant_id = $1::text and ($2::text = any(users) \
            or jsonb_path_exists(filter, '$.** ? (@ == $user)', jsonb_build_object('user', $2::text))) \
        order by 1";
    let projections = "select distinct name::text from projection_definitions \
        where tenant_id = $1::text and entity_type = 'user' and entity_id = $2::text order by 1";
    let mut left = Left::default();
    let (tenant, user) = (erasure.tenant.as_str(), erasure.user());
    for (names, sql) in [
        (&mut left.subscriptions, subscriptions),
        (&mut left.projections, projections),
    ] {
        for row in client.query(sql, &[&tenant, &user]).await? {
            names.push(row.try_get(0)?);
        }
    }
    Ok(left)
}
