//! What became of attempts to deliver webhooks, and what is to be delivered once more.

use std::collections::HashSet;
use std::time::Duration;

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::outbox::{Message, Sinks};
use crate::pool::Database;
use crate::rules::{self, RuleKind};
use crate::sql::{Columns, Sql};
use crate::work::{self, Claimed, Keys, PLAN, storable};
use crate::write::outbox;

/// Rows of the log removed at once.
const SLICE: i64 = 5_000;

/// An attempt that has ended.
#[derive(Debug)]
pub struct Attempt {
    /// The attempt.
    pub claimed: Claimed,
    /// The event's type.
    pub event_type: String,
    /// How it ended.
    pub end: End,
    /// The endpoint's status, if it answered.
    pub status: Option<u16>,
    /// The beginning of its answer.
    pub response: String,
    /// Why it was not delivered.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The endpoint has the message.
    Delivered,
    /// It is tried again after this time.
    Retry(Duration),
    /// It is not tried again.
    Failed,
    /// There is nothing to deliver: the event was removed.
    Gone,
}

/// What follows for subscriptions.
#[derive(Debug, Default)]
pub struct Consequences {
    /// Deliveries succeed again.
    pub recovered: Vec<Uuid>,
    /// A delivery failed, after those before had succeeded.
    pub failing: Vec<Uuid>,
    /// The endpoint wants no more.
    pub gone: Vec<Uuid>,
    /// Those that have failed for so long are disabled.
    pub disable_after: Duration,
}

/// Records what became of these attempts. One whose lease was lost leaves its line in the log and changes
/// nothing else: another has begun. Subscriptions that are disabled by this are announced there, by what
/// `announce` makes of their tenant, number and reason.
///
/// # Errors
/// The database does not answer; nothing is recorded, unless the commit failed.
pub async fn record(
    db: &Database,
    attempts: &[Attempt],
    consequences: &Consequences,
    to: Sinks,
    announce: impl Fn(&str, Uuid, &str) -> Message,
) -> Result<(), Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    tx.batch_execute(PLAN).await?;
    let mut again: Vec<(&Claimed, Duration, &str)> = vec![];
    let mut ended: Vec<&Claimed> = vec![];
    for attempt in attempts {
        match attempt.end {
            End::Retry(pause) => {
                again.push((
                    &attempt.claimed,
                    pause,
                    attempt.error.as_deref().unwrap_or(""),
                ));
            }
            End::Delivered | End::Failed | End::Gone => ended.push(&attempt.claimed),
        }
    }
    let alive = alive(&tx, attempts).await?;
    log(&tx, attempts, &alive).await?;
    work::drop(&tx, &ended).await?;
    work::postpone(&tx, &again).await?;
    let disabled = follow(&tx, attempts, consequences).await?;
    let messages: Vec<Message> = disabled
        .iter()
        .map(|(tenant, id, reason)| announce(tenant, *id, reason))
        .collect();
    outbox::announce(&tx, &messages, to).await?;
    if !disabled.is_empty() {
        rules::change(&tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Events and rules of which there still is work: what was erased meanwhile leaves no trace.
async fn alive(tx: &Transaction<'_>, attempts: &[Attempt]) -> Result<HashSet<(Uuid, Uuid)>, Error> {
    let claimed: Vec<&Claimed> = attempts.iter().map(|one| &one.claimed).collect();
    let Keys {
        events,
        tenants,
        rules,
        ..
    } = Keys::of(&claimed);
    let sql = "select w.event_id, w.rule_id from work w join (select distinct * from \
        unnest($1::uuid[], $2::text[], $3::uuid[]) u(event_id, tenant_id, rule_id)) u \
        using (event_id, tenant_id, rule_id) order by 1, 2 for update of w";
    let rows = tx.query(sql, &[&events, &tenants, &rules]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn log(
    tx: &Transaction<'_>,
    attempts: &[Attempt],
    alive: &HashSet<(Uuid, Uuid)>,
) -> Result<(), Error> {
    let is_alive = |one: &&Attempt| alive.contains(&(one.claimed.event_id, one.claimed.rule_id));
    let logged = attempts.iter().filter(|one| one.end != End::Gone);
    let logged: Vec<&Attempt> = logged.filter(is_alive).collect();
    if logged.is_empty() {
        return Ok(());
    }
    let claimed = || logged.iter().map(|one| &one.claimed);
    let subscriptions: Vec<Uuid> = claimed().map(|one| one.rule_id).collect();
    let tenants: Vec<&str> = claimed().map(|one| one.tenant_id.as_str()).collect();
    let events: Vec<Uuid> = claimed().map(|one| one.event_id).collect();
    let times: Vec<OffsetDateTime> = claimed().map(|one| one.event_timestamp).collect();
    let numbers: Vec<i32> = claimed().map(|one| one.attempt).collect();
    let types: Vec<&str> = logged.iter().map(|one| one.event_type.as_str()).collect();
    let outcomes: Vec<&str> = logged.iter().map(|one| one.end.as_str()).collect();
    let statuses: Vec<Option<i32>> = logged.iter().map(|one| one.status.map(i32::from)).collect();
    let took = logged.iter().map(|one| i32::try_from(one.took.as_millis()));
    let took: Vec<i32> = took.map(|millis| millis.unwrap_or(i32::MAX)).collect();
    let errors = logged.iter().map(|one| one.error.as_deref().map(storable));
    let errors: Vec<Option<String>> = errors.collect();
    let responses: Vec<String> = logged.iter().map(|one| storable(&one.response)).collect();
    let pauses: Vec<Option<f64>> = logged
        .iter()
        .map(|one| match one.end {
            End::Retry(pause) => Some(pause.as_secs_f64()),
            _ => None,
        })
        .collect();
    let sql = "insert into webhook_attempts (subscription_id, tenant_id, event_id, event_timestamp, event_type, \
            attempt, outcome, status, duration_ms, error, response, next_attempt_at) \
        select s, t, e, at, ty, n, o, st, d, er, re, now() + p * interval '1 second' \
        from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::text[], $6::int4[], $7::text[], \
            $8::int4[], $9::int4[], $10::text[], $11::text[], $12::float8[]) \
            u(s, t, e, at, ty, n, o, st, d, er, re, p)";
    tx.execute(
        sql,
        &[
            &subscriptions,
            &tenants,
            &events,
            &times,
            &types,
            &numbers,
            &outcomes,
            &statuses,
            &took,
            &errors,
            &responses,
            &pauses,
        ],
    )
    .await?;
    Ok(())
}

/// Tenant, number and reason of the subscriptions that are disabled by this.
async fn follow(
    tx: &Transaction<'_>,
    attempts: &[Attempt],
    consequences: &Consequences,
) -> Result<Vec<(String, Uuid, String)>, Error> {
    for (since, ids) in [
        ("null", &consequences.recovered),
        ("coalesce(failing_since, now())", &consequences.failing),
    ] {
        if !ids.is_empty() {
            let sql = format!(
                "update event_subscriptions set failing_since = {since} where subscription_id = any($1)"
            );
            tx.execute(&sql, &[ids]).await?;
        }
    }
    let failed = attempts.iter().filter(|one| one.end == End::Failed);
    let failed: Vec<Uuid> = failed.map(|one| one.claimed.rule_id).collect();
    if failed.is_empty() {
        return Ok(vec![]);
    }
    let sql = "update event_subscriptions set enabled = false, updated_at = now(), \
            disabled_reason = case when subscription_id = any($1) then 'gone' else 'failing' end \
        where enabled and subscription_id = any($2) and (subscription_id = any($1) \
            or failing_since < now() - $3::float8 * interval '1 second') \
        returning tenant_id, subscription_id, disabled_reason";
    let after = consequences.disable_after.as_secs_f64();
    let rows = tx
        .query(sql, &[&consequences.gone, &failed, &after])
        .await?;
    let one = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    rows.iter().map(one).collect()
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry(_) => "retry",
            Self::Failed | Self::Gone => "failed",
        }
    }
}

/// Removes from the log what is older than that.
///
/// # Errors
/// The database does not answer.
pub async fn forget(db: &Database, older_than: Duration) -> Result<u64, Error> {
    let client = db.client().await?;
    let sql = "delete from webhook_attempts where id in (select id from webhook_attempts \
        where at < now() - $1::float8 * interval '1 second' limit $2)";
    let mut removed = 0;
    loop {
        let now = client
            .execute(sql, &[&older_than.as_secs_f64(), &SLICE])
            .await?;
        removed += now;
        if now < SLICE.unsigned_abs() {
            return Ok(removed);
        }
    }
}

/// A line of the log.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in Attempt")]
pub struct Logged {
    pub id: i64,
    pub subscription_id: Uuid,
    pub event_id: Uuid,
    pub event_type: String,
    pub attempt: i32,
    /// `delivered`, `retry` or `failed`.
    pub outcome: String,
    pub status: Option<i32>,
    pub duration_ms: i32,
    pub error: Option<String>,
    pub response: Option<String>,
    pub next_attempt_at: Option<OffsetDateTime>,
    pub at: OffsetDateTime,
}

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Of this subscription.
    pub subscription_id: Option<Uuid>,
    /// Of this event.
    pub event_id: Option<Uuid>,
    /// With this outcome.
    pub outcome: Option<&'static str>,
    /// Before this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// The attempts, the newest first.
///
/// # Errors
/// The database does not answer.
pub async fn attempts(
    client: &Client,
    tenant: &TenantId,
    lines: &Lines,
) -> Result<Vec<Logged>, Error> {
    let mut sql = Sql::new(
        "select id, subscription_id, event_id, event_type, attempt, outcome, status, duration_ms, error, \
         response, next_attempt_at, at from webhook_attempts where tenant_id = ",
    );
    sql.bind(tenant.as_str().to_owned(), Type::TEXT);
    if let Some(id) = lines.subscription_id {
        sql.push(" and subscription_id = ").bind(id, Type::UUID);
    }
    if let Some(id) = lines.event_id {
        sql.push(" and event_id = ").bind(id, Type::UUID);
    }
    if let Some(outcome) = lines.outcome {
        sql.push(" and outcome = ").bind(outcome, Type::TEXT);
    }
    if let Some(id) = lines.before {
        sql.push(" and id < ").bind(id, Type::INT8);
    }
    sql.push(" order by id desc limit ")
        .bind(i64::from(lines.limit), Type::INT8);
    let line = |row: &Row| -> Result<Logged, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Logged {
            id: columns.next()?,
            subscription_id: columns.next()?,
            event_id: columns.next()?,
            event_type: columns.next()?,
            attempt: columns.next()?,
            outcome: columns.next()?,
            status: columns.next()?,
            duration_ms: columns.next()?,
            error: columns.next()?,
            response: columns.next()?,
            next_attempt_at: columns.next()?,
            at: columns.next()?,
        })
    };
    let rows = sql.rows(client).await?;
    Ok(rows.iter().map(line).collect::<Result<_, _>>()?)
}

/// Has events delivered once more, whatever became of them: that one, or all whose last attempt
/// since then failed. Returns how many.
///
/// # Errors
/// The database does not answer.
pub async fn resend(
    client: &Client,
    tenant: &TenantId,
    subscription: Uuid,
    event: Option<Uuid>,
    since: OffsetDateTime,
) -> Result<u64, Error> {
    let kind = RuleKind::Webhook as i16;
    let one = "select event_id, timestamp from event_ids where tenant_id = $1 and event_id = $4 and $5 is not null";
    let failed = "select event_id, event_timestamp from ( \
            select distinct on (event_id) event_id, event_timestamp, outcome from webhook_attempts \
            where tenant_id = $1 and subscription_id = $2 and at >= $5 order by event_id, id desc \
        ) last where outcome = 'failed' and $4 is null";
    let chosen = if event.is_some() { one } else { failed };
    let sql = format!(
        "insert into work (event_id, tenant_id, rule_id, kind, event_timestamp) \
         select c.event_id, $1, $2, $3, c.timestamp from ({chosen}) c(event_id, timestamp) \
         where exists (select from event_subscriptions where tenant_id = $1 and subscription_id = $2) \
         on conflict (event_id, tenant_id, rule_id) do update set due_at = now()"
    );
    Ok(client
        .execute_typed(
            &sql,
            &[
                (&tenant.as_str(), Type::TEXT),
                (&subscription, Type::UUID),
                (&kind, Type::INT2),
                (&event, Type::UUID),
                (&since, Type::TIMESTAMPTZ),
            ],
        )
        .await?)
}
