//! What is to be done with stored events because of rules: claimed, done, recorded.
//!
//! A claim counts the attempt and moves `due_at` to the end of the lease: what a crash leaves is due
//! again by itself. The number of the attempt is the claim's name, so an attempt that ends after its
//! lease changes nothing any more.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use domain::{Event, TenantId};
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::event_reads::StoredEvent;
use crate::event_reads::row::EVENT;
use crate::pool::Database;
use crate::rules::RuleKind;
use crate::sql::Sql;

/// Few keys of tables that are empty at one moment and large at the next, see `Writer::connect`.
#[doc(hidden)]
pub const PLAN: &str = "set local enable_seqscan = off; set local enable_hashjoin = off; \
    set local enable_mergejoin = off; set local lock_timeout = '20s'; \
    set local idle_in_transaction_session_timeout = '30s'";

/// The oldest of each rule that are due, as many as the rule has room for; the rules in their order. Of
/// a stream whose order counts only the first one that is not done.
#[doc(hidden)]
pub const CLAIM: &str = "with due as ( \
        select w.* from unnest($1::uuid[], $2::int8[], $3::float8[]) r(rule_id, free, lease) \
        cross join lateral ( \
            select rule_id, event_id, tenant_id, due_at, r.lease from work \
            where work.rule_id = r.rule_id and due_at <= now() \
                and (stream is null or not exists (select from work before \
                    where before.rule_id = work.rule_id and before.stream = work.stream \
                    and before.number < work.number)) \
            order by due_at limit r.free for update skip locked \
        ) w limit $4 \
    ) update work w set attempt = w.attempt + 1, due_at = now() + due.lease * interval '1 second' \
    from due where w.event_id = due.event_id and w.tenant_id = due.tenant_id and w.rule_id = due.rule_id \
    returning w.rule_id, w.event_id, w.tenant_id, w.event_timestamp, w.attempt, \
        extract(epoch from clock_timestamp() - due.due_at)::float8";

/// What a rule has room for.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// The rule.
    pub rule_id: Uuid,
    /// How many can be begun now.
    pub free: usize,
    /// How long one may take before it is taken for lost.
    pub lease: Duration,
}

/// An attempt at what is to be done with one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The rule that wants it.
    pub rule_id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// Whose event it is.
    pub tenant_id: TenantId,
    /// When the event happened.
    pub event_timestamp: OffsetDateTime,
    /// Which attempt this is; the first is 1.
    pub attempt: i32,
    /// How long it had been due.
    pub waited: Duration,
}

/// Claims what is due of these rules, at most so many.
///
/// # Errors
/// The database does not answer. If the commit fails, what was claimed is due again after its lease.
pub async fn claim(db: &Database, slots: &[Slot], most: usize) -> Result<Vec<Claimed>, Error> {
    let rules: Vec<Uuid> = slots.iter().map(|slot| slot.rule_id).collect();
    let free: Vec<i64> = slots
        .iter()
        .map(|slot| i64::try_from(slot.free).unwrap_or(i64::MAX))
        .collect();
    let leases: Vec<f64> = slots.iter().map(|slot| slot.lease.as_secs_f64()).collect();
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    tx.batch_execute(PLAN).await?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let types = [Type::UUID_ARRAY, Type::INT8_ARRAY, Type::FLOAT8_ARRAY];
    let [first, second, third] = types;
    let rows = tx
        .query_typed(
            CLAIM,
            &[
                (&rules, first),
                (&free, second),
                (&leases, third),
                (&most, Type::INT8),
            ],
        )
        .await?;
    let claimed = rows
        .iter()
        .map(Claimed::from_row)
        .collect::<Result<_, _>>()?;
    tx.commit().await?;
    Ok(claimed)
}

/// What webhooks have still to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Deliveries that are not done, up to [`crate::figures::MANY`].
    pub deliveries: i64,
    /// Seconds that the oldest one has been due; of enabled subscriptions whose deliveries do not fail.
    pub overdue: i64,
}

/// What webhooks have still to do, of all tenants.
///
/// # Errors
/// The database does not answer.
pub async fn waiting(client: &Client) -> Result<Waiting, Error> {
    let sql = "select (select count(*) from (select from work where kind = $1 limit $2) w), \
        coalesce((select extract(epoch from now() - min(w.due_at)) from event_subscriptions s \
            cross join lateral (select due_at from work where rule_id = s.subscription_id \
                and due_at <= now() order by due_at limit 1) w \
            where s.enabled and s.failing_since is null), 0)::int8";
    let kind = RuleKind::Webhook as i16;
    let params = [
        (&kind as _, Type::INT2),
        (&crate::figures::MANY as _, Type::INT8),
    ];
    let row = client.query_typed_one(sql, &params).await?;
    Ok(Waiting {
        deliveries: row.try_get(0)?,
        overdue: row.try_get(1)?,
    })
}

/// The events of these attempts, each read once, however many want it. What is not among them was removed
/// since.
///
/// # Errors
/// The database does not answer.
pub async fn events(
    client: &Client,
    claimed: &[Claimed],
) -> Result<HashMap<(TenantId, Uuid), Event>, Error> {
    let wanted: BTreeSet<_> = claimed
        .iter()
        .map(|one| (one.event_timestamp, one.event_id, one.tenant_id.as_str()))
        .collect();
    let (Some((first, ..)), Some((last, ..))) = (wanted.first(), wanted.last()) else {
        return Ok(HashMap::new());
    };
    let (first, last) = (*first, *last);
    let times: Vec<OffsetDateTime> = wanted.iter().map(|(time, ..)| *time).collect();
    let ids: Vec<Uuid> = wanted.iter().map(|(_, id, _)| *id).collect();
    let tenants: Vec<String> = wanted
        .iter()
        .map(|(.., tenant)| (*tenant).to_owned())
        .collect();
    let mut sql = Sql::new(EVENT);
    sql.push(" from unnest(")
        .bind(ids, Type::UUID_ARRAY)
        .push(", ")
        .bind(tenants, Type::TEXT_ARRAY)
        .push(", ")
        .bind(times, Type::TIMESTAMPTZ_ARRAY)
        .push(") u(event_id, tenant_id, timestamp) join events e using (event_id, tenant_id, timestamp) \
            where e.timestamp between ")
        // Few partitions are planned, and locked.
        .bind(first, Type::TIMESTAMPTZ)
        .push(" and ")
        .bind(last, Type::TIMESTAMPTZ);
    let event = |row: &Row| -> Result<_, tokio_postgres::Error> {
        let event = StoredEvent::from_row(row)?.event;
        Ok(((event.tenant_id.clone(), event.event_id), event))
    };
    let rows = sql.rows(client).await?;
    Ok(rows.iter().map(event).collect::<Result<_, _>>()?)
}

/// Ends attempts whose events were removed.
///
/// # Errors
/// The database does not answer.
pub async fn forget(db: &Database, gone: &[&Claimed]) -> Result<(), Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    drop(&tx, gone).await?;
    Ok(tx.commit().await?)
}

/// Ends attempts that nothing else is to be recorded of.
///
/// # Errors
/// The database does not answer.
pub async fn drop(tx: &Transaction<'_>, ended: &[&Claimed]) -> Result<(), Error> {
    if ended.is_empty() {
        return Ok(());
    }
    let Keys {
        events,
        tenants,
        rules,
        attempts,
    } = Keys::of(ended);
    let sql = "delete from work w using unnest($1::uuid[], $2::text[], $3::uuid[], $4::int4[]) \
        u(event_id, tenant_id, rule_id, attempt) where w.event_id = u.event_id \
        and w.tenant_id = u.tenant_id and w.rule_id = u.rule_id and w.attempt = u.attempt";
    tx.execute(sql, &[&events, &tenants, &rules, &attempts])
        .await?;
    Ok(())
}

/// Has these tried again after a pause each, with the reason why.
///
/// # Errors
/// The database does not answer.
pub async fn postpone(
    tx: &Transaction<'_>,
    again: &[(&Claimed, Duration, &str)],
) -> Result<(), Error> {
    if again.is_empty() {
        return Ok(());
    }
    let claimed: Vec<&Claimed> = again.iter().map(|(claimed, ..)| *claimed).collect();
    let Keys {
        events,
        tenants,
        rules,
        attempts,
    } = Keys::of(&claimed);
    let pauses: Vec<f64> = again
        .iter()
        .map(|(_, pause, _)| pause.as_secs_f64())
        .collect();
    let errors: Vec<String> = again.iter().map(|(.., error)| storable(error)).collect();
    let sql = "update work w set due_at = now() + u.pause * interval '1 second', last_error = u.error \
        from unnest($1::uuid[], $2::text[], $3::uuid[], $4::int4[], $5::float8[], $6::text[]) \
        u(event_id, tenant_id, rule_id, attempt, pause, error) where w.event_id = u.event_id \
        and w.tenant_id = u.tenant_id and w.rule_id = u.rule_id and w.attempt = u.attempt";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&events, &tenants, &rules, &attempts, &pauses, &errors];
    tx.execute(sql, &parameters).await?;
    Ok(())
}

/// The same texts without what PostgreSQL cannot hold, and cut.
pub(crate) fn storable(text: &str) -> String {
    text.chars()
        .take(1_000)
        .map(|c| if c == '\0' { '\u{fffd}' } else { c })
        .collect()
}

/// The columns of some attempts.
pub(crate) struct Keys<'a> {
    pub(crate) events: Vec<Uuid>,
    pub(crate) tenants: Vec<&'a str>,
    pub(crate) rules: Vec<Uuid>,
    pub(crate) attempts: Vec<i32>,
}

impl<'a> Keys<'a> {
    pub(crate) fn of(claimed: &[&'a Claimed]) -> Self {
        Self {
            events: claimed.iter().map(|one| one.event_id).collect(),
            tenants: claimed.iter().map(|one| one.tenant_id.as_str()).collect(),
            rules: claimed.iter().map(|one| one.rule_id).collect(),
            attempts: claimed.iter().map(|one| one.attempt).collect(),
        }
    }
}

impl Claimed {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            rule_id: row.try_get(0)?,
            event_id: row.try_get(1)?,
            tenant_id: TenantId::parse(row.try_get(2)?).unwrap_or_default(),
            event_timestamp: row.try_get(3)?,
            attempt: row.try_get(4)?,
            waited: Duration::try_from_secs_f64(row.try_get(5)?).unwrap_or_default(),
        })
    }
}
