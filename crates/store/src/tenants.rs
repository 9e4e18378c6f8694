//! Tenants: what there is of each, and the database roles that read some of them alone.

use domain::TenantId;
use domain::tenant_limits::TenantLimits;
use time::Date;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::error::Error;
use crate::pool::Database;
use crate::tenant_limits::limits;

/// What a role that reads a tenant may read: tables with a policy of rows, and views that look for
/// themselves who asks.
const READABLE: [&str; 13] = [
    "events",
    "event_ids",
    "event_streams",
    "aggregated_events",
    "aggregated_events_hourly",
    "dead_letters",
    "event_projections",
    "processing_results",
    "tracked_events",
    "grafana_tenants",
    "grafana_hourly",
    "grafana_daily",
    "grafana_dead_letters",
];
/// How many of them are tables.
const TABLES: usize = 8;

const OVERVIEW: &str = "select t.tenant, coalesce(a.events, 0), coalesce(a.today, 0), coalesce(a.types, 0), \
        a.first, a.last, \
        (select count(*) from dead_letters d where d.tenant_id = t.tenant and d.state = 'open'), \
        (select count(*) from api_keys k where k.tenant_id = t.tenant and k.revoked_at is null \
            and (k.expires_at is null or k.expires_at > now())), \
        coalesce((select array_agg(r.role::text order by r.role) from tenant_readers r \
            where r.tenant = t.tenant), '{}'), \
        l.events_per_second, l.bytes_per_day, l.types_per_day, l.connections \
    from (select tenant_id as tenant from aggregated_events union select tenant_id from api_keys \
        union select tenant from tenant_readers union select tenant from tenant_limits) t \
    left join tenant_limits l on l.tenant = t.tenant \
    left join lateral (select sum(count)::int8 as events, count(distinct event_type) as types, \
        min(date) as first, max(date) as last, (sum(count) filter \
            (where date = (now() at time zone 'utc')::date))::int8 as today \
        from aggregated_events where tenant_id = t.tenant) a on true \
    where $1::text is null or t.tenant = $1 order by 1 limit $2 offset $3";

/// What there is of a tenant.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Its name.
    pub tenant: String,
    /// Events counted, of all time.
    pub events: i64,
    /// Of these today, in UTC.
    pub today: i64,
    /// Types that they are counted by.
    pub types: i64,
    /// The first and the last day with events.
    pub days: Option<(Date, Date)>,
    /// Dead letters that nothing was done about.
    pub dead_letters: i64,
    /// API keys that are good.
    pub keys: i64,
    /// Database roles that read it.
    pub readers: Vec<String>,
    /// Its own limits.
    pub limits: TenantLimits,
}

impl Overview {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let (first, last): (Option<Date>, Option<Date>) = (row.try_get(4)?, row.try_get(5)?);
        Ok(Self {
            tenant: row.try_get(0)?,
            events: row.try_get(1)?,
            today: row.try_get(2)?,
            types: row.try_get(3)?,
            days: first.zip(last),
            dead_letters: row.try_get(6)?,
            keys: row.try_get(7)?,
            readers: row.try_get(8)?,
            limits: limits(row, 9)?,
        })
    }
}

/// The tenants that have events, keys, readers or limits: all, or the one of a name.
///
/// # Errors
/// The database does not answer.
pub async fn list(client: &Client, tenant: Option<&TenantId>) -> Result<Vec<Overview>, Error> {
    overview(client, tenant, (i64::MAX, 0)).await
}

/// The same, so many after so many others.
///
/// # Errors
/// The database does not answer.
pub async fn page(client: &Client, (limit, offset): (i64, i64)) -> Result<Vec<Overview>, Error> {
    overview(client, None, (limit, offset)).await
}

async fn overview(
    client: &Client,
    tenant: Option<&TenantId>,
    (limit, offset): (i64, i64),
) -> Result<Vec<Overview>, Error> {
    let parameters: [&(dyn ToSql + Sync); 3] = [&tenant.map(TenantId::as_str), &limit, &offset];
    let rows = client.query(OVERVIEW, &parameters).await?;
    Ok(rows
        .iter()
        .map(Overview::from_row)
        .collect::<Result<_, _>>()?)
}

/// What became of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// The role reads the tenant.
    Done,
    /// There is no such role.
    NoRole,
    /// The role owns the tables, or passes over policies: it reads everything.
    ReadsAll,
    /// These roles write and do not own the tables: policies would keep them out.
    KeptOut(Vec<String>),
}

/// Lets a role read a tenant's rows, beside those of others that were granted before. The policies are in
/// force from the first grant on.
///
/// # Errors
/// The database does not answer, this role does not own the tables, or another transaction keeps a lock.
pub async fn grant(db: &Database, role: &str, tenant: &TenantId) -> Result<Granted, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    tx.batch_execute("set local lock_timeout = '5s'").await?;
    let passes = "select r.rolsuper or r.rolbypassrls or pg_has_role(r.oid, c.relowner, 'usage') \
        from pg_roles r, pg_class c where r.rolname = $1::text and c.oid = 'events'::regclass";
    match tx.query_opt(passes, &[&role]).await? {
        None => return Ok(Granted::NoRole),
        Some(row) if row.try_get(0)? => return Ok(Granted::ReadsAll),
        Some(_) => {}
    }
    let writers = "select r.rolname::text from pg_roles r, pg_class c where c.oid = 'events'::regclass \
        and has_table_privilege(r.oid, c.oid, 'insert') and not r.rolsuper and not r.rolbypassrls \
        and not pg_has_role(r.oid, c.relowner, 'usage') and r.rolname not like 'pg\\_%' order by 1";
    let writers = tx.query(writers, &[]).await?;
    if !writers.is_empty() {
        let names = writers.iter().map(|row| row.try_get(0));
        return Ok(Granted::KeptOut(names.collect::<Result<_, _>>()?));
    }
    let quoted = "select quote_ident($1::text), quote_ident(current_schema())";
    let row = tx.query_one(quoted, &[&role]).await?;
    let (quoted, schema): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    for table in &READABLE[..TABLES] {
        let off = "select not relrowsecurity from pg_class where oid = $1::text::regclass";
        if tx.query_one(off, &[table]).await?.try_get(0)? {
            let on = format!("alter table {table} enable row level security");
            tx.batch_execute(&on).await?;
        }
    }
    let names = READABLE.join(", ");
    tx.batch_execute(&format!(
        "grant usage on schema {schema} to {quoted}; grant select on {names} to {quoted}"
    ))
    .await?;
    let insert = "insert into tenant_readers (role, tenant) values ($1::text::name, $2::text) \
        on conflict do nothing";
    tx.execute(insert, &[&role, &tenant.as_str()]).await?;
    tx.commit().await?;
    Ok(Granted::Done)
}

/// Takes a tenant from a role, or all; one that has none left may read nothing more. Returns how many it
/// loses.
///
/// # Errors
/// As [`grant`].
pub async fn revoke(db: &Database, role: &str, tenant: Option<&TenantId>) -> Result<u64, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let delete = "delete from tenant_readers where role = $1::text::name \
        and ($2::text is null or tenant = $2)";
    let lost = tx
        .execute(delete, &[&role, &tenant.map(TenantId::as_str)])
        .await?;
    let left = "select not exists (select from tenant_readers where role = $1::text::name) \
        and exists (select from pg_roles where rolname = $1::text), quote_ident($1::text)";
    let row = tx.query_one(left, &[&role]).await?;
    if lost > 0 && row.try_get(0)? {
        // Nobody's row is left to show; without the row of the role the policies would show all.
        let quoted: String = row.try_get(1)?;
        let names = READABLE.join(", ");
        tx.batch_execute(&format!("revoke select on {names} from {quoted}"))
            .await?;
    }
    tx.commit().await?;
    Ok(lost)
}
