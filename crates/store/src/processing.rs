//! What processors did with events: recorded once for each attempt, and the event's row touched once, when
//! the last of its processors is done.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::outbox::{Message, Sinks};
use crate::pool::Database;
use crate::sql::{Columns, Sql};
use crate::work::{self, Claimed, Keys, PLAN, storable};
use crate::write::dead_letters::{self, DeadLetter};
use crate::write::outbox;

/// The reason of a dead letter whose event is stored, and which a processor gave up on. Its key is the
/// processor's name.
pub const HANDLER_FAILED: &str = "handler_failed";

/// All that is to be done by processors with these events. Who ends one of them waits here for others
/// that end another of the same event: one of them is the last.
const LOCK: &str = "select w.event_id, w.tenant_id, w.rule_id, w.attempt from work w \
    join (select distinct event_id, tenant_id from unnest($1::uuid[], $2::text[]) u(event_id, tenant_id)) u \
    using (event_id, tenant_id) where w.kind = 1 \
    order by w.event_id, w.tenant_id, w.rule_id for update of w";

const RESULTS: &str = "insert into processing_results as r \
    (event_id, tenant_id, processor_name, status, message, attempts, duration_ms) \
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int4[], $7::int4[]) \
    on conflict (event_id, tenant_id, processor_name) do update set status = excluded.status, \
        message = excluded.message, attempts = excluded.attempts, processed_at = now(), \
        duration_ms = excluded.duration_ms";

/// What was redriven and is done now, or failed again.
const REDRIVEN: &str = "unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) \
    u(event_id, tenant_id, name, detail) where d.event_id = u.event_id and d.tenant_id = u.tenant_id \
    and d.reason = 'handler_failed' and d.state = 'redriven' and d.key = convert_to(u.name, 'UTF8')";

const EVENTS: &str = "update events e set status = s.status, processors = s.processors, \
        processed_at = case when s.status = 'processed' then now() end, \
        error_message = s.error, retry_count = s.retries, updated_at = now() \
    from ( \
        select u.event_id, u.tenant_id, u.timestamp, \
            case when bool_or(r.status = 'failed') then 'failed' else 'processed' end as status, \
            array_agg(r.processor_name order by r.processor_name) as processors, \
            string_agg(r.processor_name || ': ' || r.message, '; ' order by r.processor_name) \
                filter (where r.status = 'failed') as error, \
            sum(r.attempts - 1)::int4 as retries \
        from unnest($1::uuid[], $2::text[], $3::timestamptz[]) u(event_id, tenant_id, timestamp) \
        join processing_results r using (event_id, tenant_id) group by 1, 2, 3 \
    ) s where e.event_id = s.event_id and e.tenant_id = s.tenant_id and e.timestamp = s.timestamp \
        and e.timestamp between $4 and $5";

const PROCESSOR: &str = "update event_processors set last_processed_at = now(), \
    error_count = error_count + $2, last_error = coalesce($3, last_error) where processor_id = $1";

/// An attempt of a processor that has ended.
#[derive(Debug)]
pub struct Run {
    /// The attempt.
    pub claimed: Claimed,
    /// The processor's name.
    pub processor: String,
    /// How it ended.
    pub end: End,
    /// What it said.
    pub message: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// What is announced of it.
    pub announcement: Option<Message>,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum End {
    /// With success.
    Success,
    /// The processor has nothing to do with this event.
    Skipped,
    /// It is tried again after this time.
    Retry(Duration),
    /// For good; the event becomes a dead letter.
    Failed(Box<DeadLetter>),
}

impl End {
    /// The word of it (S4-79).
    #[must_use]
    pub fn status(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Skipped => "skipped",
            Self::Retry(_) => "retry",
            Self::Failed(_) => "failed",
        }
    }
}

/// Records what became of these attempts; returns how many were recorded. An attempt whose lease was
/// lost is not: another has begun. What tells of them is announced there.
///
/// # Errors
/// The database does not answer; nothing is recorded, unless the commit failed.
pub async fn record(db: &Database, runs: &[Run], to: Sinks) -> Result<usize, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    tx.batch_execute(PLAN).await?;
    let claimed: Vec<&Claimed> = runs.iter().map(|run| &run.claimed).collect();
    let Keys {
        events, tenants, ..
    } = Keys::of(&claimed);
    let rows = tx.query(LOCK, &[&events, &tenants]).await?;
    let mut open: HashSet<(Uuid, String, Uuid, i32)> = HashSet::new();
    for row in &rows {
        open.insert((
            row.try_get(0)?,
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
        ));
    }
    let (mut again, mut ended) = (vec![], vec![]);
    for run in runs {
        let Claimed {
            event_id,
            tenant_id,
            rule_id,
            attempt,
            ..
        } = &run.claimed;
        let key = (*event_id, tenant_id.to_string(), *rule_id, *attempt);
        match run.end {
            End::Retry(_) if open.contains(&key) => again.push(run),
            _ if open.remove(&key) => ended.push(run),
            _ => {}
        }
    }
    let recorded: Vec<&Run> = again.iter().chain(&ended).copied().collect();
    if recorded.is_empty() {
        return Ok(0);
    }
    let postponed = again.iter().filter_map(|run| match &run.end {
        End::Retry(pause) => Some((
            &run.claimed,
            *pause,
            run.message.as_deref().unwrap_or_default(),
        )),
        _ => None,
    });
    work::postpone(&tx, &postponed.collect::<Vec<_>>()).await?;
    let gone: Vec<&Claimed> = ended.iter().map(|run| &run.claimed).collect();
    work::drop(&tx, &gone).await?;
    results(&tx, &recorded).await?;
    letters(&tx, &ended).await?;
    let announced: Vec<Message> = recorded
        .iter()
        .filter_map(|run| run.announcement.clone())
        .collect();
    outbox::announce(&tx, &announced, to).await?;
    let left: HashSet<(Uuid, &str)> = open
        .iter()
        .map(|(id, tenant, ..)| (*id, tenant.as_str()))
        .collect();
    let last = ended.iter().map(|run| &run.claimed);
    let last = last.filter(|one| !left.contains(&(one.event_id, one.tenant_id.as_str())));
    finish(&tx, &last.collect::<Vec<_>>()).await?;
    processors(&tx, &recorded).await?;
    tx.commit().await?;
    Ok(recorded.len())
}

async fn results(tx: &Transaction<'_>, runs: &[&Run]) -> Result<(), Error> {
    let claimed: Vec<&Claimed> = runs.iter().map(|run| &run.claimed).collect();
    let Keys {
        events,
        tenants,
        attempts,
        ..
    } = Keys::of(&claimed);
    let names: Vec<&str> = runs.iter().map(|run| run.processor.as_str()).collect();
    let statuses: Vec<&str> = runs.iter().map(|run| run.end.status()).collect();
    let messages: Vec<_> = runs
        .iter()
        .map(|run| run.message.as_deref().map(storable))
        .collect();
    let took = |run: &&Run| i32::try_from(run.took.as_millis()).unwrap_or(i32::MAX);
    let took: Vec<i32> = runs.iter().map(took).collect();
    let parameters: [&(dyn ToSql + Sync); 7] = [
        &events, &tenants, &names, &statuses, &messages, &attempts, &took,
    ];
    tx.execute(RESULTS, &parameters).await?;
    Ok(())
}

/// Removes the dead letters of what is done, opens those of what failed again, and keeps the others.
async fn letters(tx: &Transaction<'_>, ended: &[&Run]) -> Result<(), Error> {
    let (failed, done): (Vec<&Run>, Vec<&Run>) = ended
        .iter()
        .partition(|run| matches!(run.end, End::Failed(_)));
    if !done.is_empty() {
        redriven(tx, "delete from dead_letters d using", &done).await?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let opened = redriven(
        tx,
        "update dead_letters d set state = 'open', detail = u.detail, changed_at = now() from",
        &failed,
    )
    .await?;
    let new = failed.iter().filter_map(|run| match &run.end {
        End::Failed(letter) => Some((run, &**letter)),
        _ => None,
    });
    let new =
        new.filter(|(run, _)| !opened.contains(&(run.claimed.event_id, run.processor.clone())));
    let new: Vec<&DeadLetter> = new.map(|(_, letter)| letter).collect();
    let statement = tx.prepare(dead_letters::INSERT).await?;
    dead_letters::insert(tx, &statement, &new).await
}

/// Returns the events, each with the name of the processor, whose dead letters were found.
async fn redriven(
    tx: &Transaction<'_>,
    change: &str,
    runs: &[&Run],
) -> Result<HashSet<(Uuid, String)>, Error> {
    let claimed: Vec<&Claimed> = runs.iter().map(|run| &run.claimed).collect();
    let Keys {
        events, tenants, ..
    } = Keys::of(&claimed);
    let names: Vec<&str> = runs.iter().map(|run| run.processor.as_str()).collect();
    let detail = |run: &&Run| match &run.end {
        End::Failed(letter) => storable(&letter.detail),
        _ => String::new(),
    };
    let details: Vec<String> = runs.iter().map(detail).collect();
    let sql = format!("{change} {REDRIVEN} returning u.event_id, u.name");
    let rows = tx
        .query(&sql, &[&events, &tenants, &names, &details])
        .await?;
    let found = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    found.collect()
}

/// Touches the rows of events that nothing is left to be done with by processors.
async fn finish(tx: &Transaction<'_>, last: &[&Claimed]) -> Result<(), Error> {
    let times = || last.iter().map(|one| one.event_timestamp);
    let (Some(first), Some(end)) = (times().min(), times().max()) else {
        return Ok(());
    };
    // Two processors of one event may have ended together.
    let once: BTreeMap<(Uuid, &str), OffsetDateTime> = last
        .iter()
        .map(|one| ((one.event_id, one.tenant_id.as_str()), one.event_timestamp))
        .collect();
    let events: Vec<Uuid> = once.keys().map(|(id, _)| *id).collect();
    let tenants: Vec<&str> = once.keys().map(|(_, tenant)| *tenant).collect();
    let times: Vec<OffsetDateTime> = once.into_values().collect();
    // Unnamed, so planned for these very times: few partitions are locked.
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&events, Type::UUID_ARRAY),
        (&tenants, Type::TEXT_ARRAY),
        (&times, Type::TIMESTAMPTZ_ARRAY),
        (&first, Type::TIMESTAMPTZ),
        (&end, Type::TIMESTAMPTZ),
    ];
    tx.query_typed(EVENTS, &parameters).await?;
    Ok(())
}

/// Counts the errors of processors, in the order of their ids: these rows are few and hot.
async fn processors(tx: &Transaction<'_>, runs: &[&Run]) -> Result<(), Error> {
    let mut by_id: BTreeMap<Uuid, (i64, Option<String>)> = BTreeMap::new();
    for run in runs {
        let (errors, last) = by_id.entry(run.claimed.rule_id).or_default();
        if matches!(run.end, End::Retry(_) | End::Failed(_)) {
            *errors += 1;
            *last = run.message.as_deref().map(storable);
        }
    }
    let statement = tx.prepare(PROCESSOR).await?;
    for (id, (errors, last)) in &by_id {
        tx.execute(&statement, &[id, errors, last]).await?;
    }
    Ok(())
}

/// What one processor did with one event, or has still to do.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the same names, S4-79")]
pub struct StoredResult {
    pub processor_name: String,
    /// `success`, `failed`, `skipped`, `retry`; `pending` if no attempt has ended yet.
    pub status: String,
    pub message: Option<String>,
    pub attempts: i32,
    pub processed_at: Option<OffsetDateTime>,
    pub duration_ms: Option<i32>,
    /// When it is to be done (again); none once there is an outcome.
    pub due_at: Option<OffsetDateTime>,
}

/// What processors did with an event, by their names.
///
/// # Errors
/// The database does not answer.
pub async fn results_of(
    client: &Client,
    tenant: &TenantId,
    event_id: Uuid,
) -> Result<Vec<StoredResult>, Error> {
    let mut sql = Sql::new(
        "with w as (select p.processor_name, w.attempt, w.due_at from work w \
            join event_processors p on p.processor_id = w.rule_id where w.event_id = ",
    );
    sql.bind(event_id, Type::UUID)
        .push(" and w.tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push("), r as (select * from processing_results where event_id = ")
        .bind(event_id, Type::UUID)
        .push(" and tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(
            ") select processor_name, coalesce(r.status, 'pending'), r.message, \
            coalesce(w.attempt, r.attempts), r.processed_at, r.duration_ms, w.due_at \
            from r full join w using (processor_name) order by 1",
        );
    let result = |row: &Row| -> Result<StoredResult, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(StoredResult {
            processor_name: columns.next()?,
            status: columns.next()?,
            message: columns.next()?,
            attempts: columns.next()?,
            processed_at: columns.next()?,
            duration_ms: columns.next()?,
            due_at: columns.next()?,
        })
    };
    let rows = sql.rows(client).await?;
    Ok(rows.iter().map(result).collect::<Result<_, _>>()?)
}
