//! How many events each user had on each day, how many users there were, and how long storing took: counted
//! behind the store, in the order in which events were stored, each event once (docs/decisions/0040).

use domain::TenantId;
use time::{Date, OffsetDateTime};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use crate::behind::horizon;
use crate::error::Error;
use crate::sql::Sql;

/// Users of a day that are kept as its busiest.
const BUSIEST: i64 = 100;
/// Of these, how many of a period have their days added up: those with the most on the days when they were
/// among the busiest.
const CANDIDATES: i64 = 100;
/// Users that are told of.
const TOP: i64 = 10;

/// What the processor that counts has locked; an erasure waits for it.
const LOCK: &str = "select counted_until from user_counting for update";

/// Counts what was stored from `$1` on and before `$2`; gives how many events these were, and the days whose
/// busiest users may be others now.
const COUNT: &str = "with found as materialized ( \
        select tenant_id as tenant, (timestamp at time zone 'utc')::date as day, user_id, count(*) as events, \
            sum(greatest(extract(epoch from created_at - received_at), 0))::float8 as seconds \
        from events where created_at >= $1 and created_at < $2 group by 1, 2, 3), \
    touched as ( \
        insert into user_days as u (tenant, day, user_id, events) \
        select tenant, day, user_id, events from found where user_id is not null order by 1, 2, 3 \
        on conflict (tenant, day, user_id) do update set events = u.events + excluded.events \
        returning tenant, day, user_id, events, xmax = 0 as is_new), \
    days as ( \
        insert into event_days as d (tenant, day, events, users, seconds) \
        select tenant, day, f.events, coalesce(t.users, 0), f.seconds from \
            (select tenant, day, sum(events)::int8 as events, sum(seconds) as seconds from found group by 1, 2) f \
            left join (select tenant, day, count(*) filter (where is_new) as users from touched group by 1, 2) t \
            using (tenant, day) \
        on conflict (tenant, day) do update set events = d.events + excluded.events, \
            users = d.users + excluded.users, seconds = d.seconds + excluded.seconds), \
    bottom as ( \
        select tenant, day, count(*) as kept, min(b.events) as events \
        from (select distinct tenant, day from touched) t join busiest_users b using (tenant, day) group by 1, 2), \
    ranked as ( \
        select t.*, row_number() over (partition by tenant, day order by t.events desc, t.user_id) as place \
        from touched t left join bottom l using (tenant, day) \
        where l.kept is null or l.kept < $3 or t.events > l.events), \
    kept as ( \
        insert into busiest_users (tenant, day, user_id, events) \
        select tenant, day, user_id, events from ranked where place <= $3 \
        on conflict (tenant, day, user_id) do update set events = excluded.events \
        returning tenant, day) \
    select (select coalesce(sum(events), 0)::int8 from found), \
        array(select tenant::text from kept group by tenant, day order by tenant, day), \
        array(select day from kept group by tenant, day order by tenant, day)";

/// Lets those go of these days that are not among the busiest any more.
const TRIM: &str = "delete from busiest_users b using ( \
        select tenant, day, user_id, row_number() over (partition by tenant, day order by events desc, user_id) as place \
        from busiest_users join unnest($1::text[], $2::date[]) d(tenant, day) using (tenant, day)) r \
    where r.place > $3 and b.tenant = r.tenant and b.day = r.day and b.user_id = r.user_id";

/// What a step of the counting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Events that were counted.
    pub events: i64,
    /// What was stored before this is counted.
    pub until: OffsetDateTime,
    /// Whether that is all that can be seen.
    pub is_all: bool,
}

/// Counts what was stored since the last step, of so much time at most; `None` while another counts. Asked of
/// a connection that has a processor's name, as [`horizon`] is.
///
/// # Errors
/// The database does not answer; nothing of the step is counted.
pub async fn step(client: &mut Client, most: time::Duration) -> Result<Option<Counted>, Error> {
    let horizon = horizon(client).await?;
    let tx = client.transaction().await?;
    let lock = format!("{LOCK} skip locked");
    let Some(row) = tx.query_opt(&lock, &[]).await? else {
        return Ok(None);
    };
    let from: Option<OffsetDateTime> = match row.try_get(0)? {
        Some(from) => Some(from),
        None => {
            let first = "select min(created_at) from events where created_at < $1";
            tx.query_one(first, &[&horizon]).await?.try_get(0)?
        }
    };
    let from = from.unwrap_or(horizon);
    let until = horizon.min(from.saturating_add(most)).max(from);
    let row = tx.query_one(COUNT, &[&from, &until, &BUSIEST]).await?;
    let events = row.try_get(0)?;
    let (tenants, days): (Vec<String>, Vec<Date>) = (row.try_get(1)?, row.try_get(2)?);
    if !days.is_empty() {
        tx.execute(TRIM, &[&tenants, &days, &BUSIEST]).await?;
    }
    let note = "update user_counting set counted_until = $1";
    tx.execute(note, &[&until]).await?;
    tx.commit().await?;
    Ok(Some(Counted {
        events,
        until,
        is_all: until >= horizon,
    }))
}

/// Forgets a user, in the transaction that erases what names the user; with `counts` the days had a user
/// less. Returns how many days it were. It waits for a step of the counting, a moment.
///
/// # Errors
/// The database does not answer.
pub async fn erase(
    tx: &Transaction<'_>,
    tenant: &str,
    user: &str,
    counts: bool,
) -> Result<u64, Error> {
    tx.query(LOCK, &[]).await?;
    // By the days, which are few: no index begins with the user.
    let busiest = "delete from busiest_users b using event_days d where d.tenant = $1::text \
        and b.tenant = d.tenant and b.day = d.day and b.user_id = $2::text";
    tx.execute(busiest, &[&tenant, &user]).await?;
    let days = "with gone as (delete from user_days u using event_days d where d.tenant = $1::text \
            and u.tenant = d.tenant and u.day = d.day and u.user_id = $2::text returning u.day), \
        less as (update event_days d set users = users - 1 from gone \
            where $3 and d.tenant = $1::text and d.day = gone.day) \
        select count(*) from gone";
    let row = tx.query_one(days, &[&tenant, &user, &counts]).await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}

/// Forgets the users of the days before, whose events are removed. How many they were stays.
///
/// # Errors
/// The database does not answer.
pub async fn retire(client: &Client, before: Date) -> Result<(), Error> {
    for table in ["busiest_users", "user_days"] {
        let sql = format!("delete from {table} where day < $1");
        client.execute(&sql, &[&before]).await?;
    }
    Ok(())
}

/// Users and times of a tenant's days.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserCounts {
    /// How many users each day had, the latest first, at most 10,000 days.
    pub users: Vec<(Date, i64)>,
    /// Events of the days.
    pub events: i64,
    /// Seconds that these took from accepted to stored, together.
    pub seconds: f64,
    /// The users with the most events, of the hundred busiest of each day, most first; at most ten.
    pub top: Vec<(String, i64)>,
    /// What was stored before this is counted; `None` until that is begun.
    pub until: Option<OffsetDateTime>,
}

/// Reads what is counted of the days from `from` to `to`; `None` is open.
///
/// # Errors
/// The database does not answer.
pub async fn read(
    client: &Client,
    tenant: &TenantId,
    from: Date,
    to: Option<Date>,
) -> Result<UserCounts, Error> {
    let (days, top) = (days_sql(tenant, from, to), top_sql(tenant, from, to));
    let until = Sql::new("select counted_until from user_counting");
    let (days, top, until) =
        tokio::try_join!(days.rows(client), top.rows(client), until.row(client))?;
    let mut counts = UserCounts {
        until: until.try_get(0)?,
        ..UserCounts::default()
    };
    for row in days {
        counts.users.push((row.try_get(0)?, row.try_get(1)?));
        counts.events += row.try_get::<_, i64>(2)?;
        counts.seconds += row.try_get::<_, f64>(3)?;
    }
    for row in top {
        counts.top.push((row.try_get(0)?, row.try_get(1)?));
    }
    Ok(counts)
}

fn days_sql(tenant: &TenantId, from: Date, to: Option<Date>) -> Sql {
    let mut sql = Sql::new("select day, users, events, seconds from event_days d where true");
    of(&mut sql, tenant, from, to);
    sql.push(" order by day desc limit 10000");
    sql
}

/// The busiest of each day, and then all of their days, by the primary key.
fn top_sql(tenant: &TenantId, from: Date, to: Option<Date>) -> Sql {
    let mut sql = Sql::new(
        "select c.user_id, sum(u.events)::int8 from (select d.user_id from busiest_users d where true",
    );
    of(&mut sql, tenant, from, to);
    sql.push(" group by 1 order by sum(d.events) desc, 1 limit ")
        .bind(CANDIDATES, Type::INT8)
        .push(") c cross join (select d.day from event_days d where true");
    of(&mut sql, tenant, from, to);
    sql.push(
        ") days join user_days u on u.day = days.day and u.user_id = c.user_id and u.tenant = ",
    )
    .bind(tenant.as_str().to_owned(), Type::TEXT)
    .push(" group by 1 order by 2 desc, 1 limit ")
    .bind(TOP, Type::INT8);
    sql
}

/// The days of `d` that are asked for.
fn of(sql: &mut Sql, tenant: &TenantId, from: Date, to: Option<Date>) {
    sql.push(" and d.tenant = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and d.day >= ")
        .bind(from, Type::DATE);
    if let Some(to) = to {
        sql.push(" and d.day <= ").bind(to, Type::DATE);
    }
}
