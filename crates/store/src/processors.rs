//! Processors (S4-77): what is done with stored events.

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::pool::Database;
use crate::rules;
use crate::sql::{Columns, Sql};

/// A processor that comes with the code.
#[derive(Debug, Clone)]
pub struct FromCode {
    /// Its name.
    pub name: String,
    /// Higher ones begin first.
    pub priority: i32,
    /// Which events it is about: JSON of a selector.
    pub filters: String,
}

/// A processor as it stands in the table.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the same names, S4-77")]
pub struct StoredProcessor {
    pub processor_id: Uuid,
    /// Whose events it is about; none for those of all.
    pub tenant_id: Option<TenantId>,
    pub processor_name: String,
    pub processor_type: String,
    pub enabled: bool,
    pub priority: i32,
    pub filters: serde_json::Value,
    pub config: serde_json::Value,
    pub from_code: bool,
    pub deleted: bool,
    pub error_count: i64,
    pub last_error: Option<String>,
    pub last_processed_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

const COLUMNS: &str = "select processor_id, tenant_id, processor_name, processor_type, enabled, priority, \
    filters::text, config::text, from_code, deleted_at is not null, error_count, last_error, \
    last_processed_at, created_at, updated_at from event_processors";

/// Writes down those that come with the code, where they are new or others than before. Whether they
/// are enabled stays as it is.
///
/// # Errors
/// The database does not answer.
pub async fn register(db: &Database, processors: &[FromCode]) -> Result<(), Error> {
    const DIFFERENT: &str = "from unnest($1::text[], $2::int4[], $3::text[]) u(name, priority, filters) \
        left join event_processors p on p.processor_name = u.name and p.from_code and p.deleted_at is null \
        where (p.priority, p.filters) is distinct from (u.priority, u.filters::jsonb)";
    if processors.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = processors.iter().map(|one| one.name.as_str()).collect();
    let priorities: Vec<i32> = processors.iter().map(|one| one.priority).collect();
    let filters: Vec<&str> = processors.iter().map(|one| one.filters.as_str()).collect();
    let mut client = db.client().await?;
    let sql = format!("select exists (select {DIFFERENT})");
    let row = client
        .query_one(&sql, &[&names, &priorities, &filters])
        .await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(());
    }
    let tx = client.transaction().await?;
    rules::change(&tx).await?;
    let sql = format!(
        "insert into event_processors (processor_name, processor_type, priority, filters, config, from_code) \
         select u.name, 'handler', u.priority, u.filters::jsonb, jsonb_build_object('handler', u.name), true \
         {DIFFERENT} on conflict (coalesce(tenant_id, ''), processor_name) where deleted_at is null \
         do update set priority = excluded.priority, filters = excluded.filters, updated_at = now()"
    );
    tx.execute(&sql, &[&names, &priorities, &filters]).await?;
    Ok(tx.commit().await?)
}

/// Those that have something to do: the enabled ones, and those deleted whose work is not yet cleared.
/// Those of higher priority come first.
///
/// # Errors
/// The database does not answer.
pub async fn active(client: &Client) -> Result<Vec<StoredProcessor>, Error> {
    let mut sql = Sql::new(COLUMNS);
    sql.push(
        " where enabled or deleted_at is not null order by priority desc, created_at, processor_id",
    );
    all(client, &sql).await
}

/// Forgets those deleted a while ago of whose work nothing is left.
///
/// # Errors
/// The database does not answer.
pub async fn purge(client: &Client) -> Result<u64, Error> {
    let sql = "delete from event_processors p where deleted_at < now() - interval '1 minute' \
        and not exists (select from work w where w.rule_id = p.processor_id)";
    Ok(client.execute(sql, &[]).await?)
}

/// Those a tenant sees: its own. What is for all, and its errors, is for the default one to see and switch.
/// Those of higher priority first.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    tenant: &TenantId,
    (limit, offset): (u32, u32),
) -> Result<Vec<StoredProcessor>, Error> {
    let mut sql = Sql::new(COLUMNS);
    sql.push(" where deleted_at is null and coalesce(tenant_id, 'default') = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" order by priority desc, created_at, processor_id limit ")
        .bind(i64::from(limit), Type::INT8)
        .push(" offset ")
        .bind(i64::from(offset), Type::INT8);
    all(client, &sql).await
}

/// What can be said of a processor.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the same names, S4-77")]
pub struct NewProcessor {
    pub processor_name: String,
    pub processor_type: String,
    pub enabled: bool,
    pub priority: i32,
    /// JSON of a selector.
    pub filters: String,
    /// JSON of its settings.
    pub config: String,
}

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// It is this now.
    Done(Box<StoredProcessor>),
    /// There is another of that name.
    NameTaken,
    /// There is none of that id.
    Missing,
}

/// The names of the handlers that come with the code of processors.
///
/// # Errors
/// The database does not answer.
pub async fn handlers(client: &Client) -> Result<Vec<String>, Error> {
    let sql = "select processor_name from event_processors where from_code and deleted_at is null order by 1";
    let rows = client.query(sql, &[]).await?;
    Ok(rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?)
}

/// The processor of that id, if the tenant sees it.
///
/// # Errors
/// The database does not answer.
pub async fn find(
    client: &Client,
    tenant: &TenantId,
    id: Uuid,
) -> Result<Option<StoredProcessor>, Error> {
    let mut sql = Sql::new(COLUMNS);
    sql.push(" where deleted_at is null and processor_id = ")
        .bind(id, Type::UUID)
        .push(" and coalesce(tenant_id, 'default') = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT);
    Ok(all(client, &sql).await?.pop())
}

/// Registers a processor. Every event stored from then on follows it.
///
/// # Errors
/// The database does not answer, or a storing transaction takes too long.
pub async fn insert(
    db: &Database,
    tenant: &TenantId,
    new: &NewProcessor,
) -> Result<Changed, Error> {
    let id = Uuid::now_v7();
    let sql = "insert into event_processors (processor_id, tenant_id, processor_name, processor_type, \
        enabled, priority, filters, config) values ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb)";
    change(db, tenant, id, sql, new).await
}

/// Changes a processor that was registered through the API.
///
/// # Errors
/// The database does not answer, or a storing transaction takes too long.
pub async fn update(
    db: &Database,
    tenant: &TenantId,
    id: Uuid,
    new: &NewProcessor,
) -> Result<Changed, Error> {
    let sql = "update event_processors set processor_name = $3, processor_type = $4, enabled = $5, \
        priority = $6, filters = $7::text::jsonb, config = $8::text::jsonb, updated_at = now() \
        where processor_id = $1 and tenant_id = $2 and deleted_at is null";
    change(db, tenant, id, sql, new).await
}

async fn change(
    db: &Database,
    tenant: &TenantId,
    id: Uuid,
    sql: &str,
    new: &NewProcessor,
) -> Result<Changed, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    rules::change(&tx).await?;
    let NewProcessor {
        processor_name,
        processor_type,
        enabled,
        priority,
        filters,
        config,
    } = new;
    let tenant_id = tenant.as_str();
    // Results are kept under the name, and a handler of the code is everybody's.
    let taken =
        "select exists (select from event_processors where from_code and processor_name = $1)";
    if tx.query_one(taken, &[processor_name]).await?.try_get(0)? {
        return Ok(Changed::NameTaken);
    }
    let parameters: [&(dyn ToSql + Sync); 8] = [
        &id,
        &tenant_id,
        processor_name,
        processor_type,
        enabled,
        priority,
        filters,
        config,
    ];
    match tx.execute(sql, &parameters).await {
        Ok(0) => return Ok(Changed::Missing),
        Ok(_) => tx.commit().await?,
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            return Ok(Changed::NameTaken);
        }
        Err(error) => return Err(error.into()),
    }
    let found = find(&client, tenant, id).await?;
    Ok(found.map_or(Changed::Missing, |one| Changed::Done(Box::new(one))))
}

/// Switches a processor on or off; to the other one without `enabled`. What waits for one that is off
/// stays.
///
/// # Errors
/// The database does not answer, or a storing transaction takes too long.
pub async fn toggle(
    db: &Database,
    tenant: &TenantId,
    id: Uuid,
    enabled: Option<bool>,
) -> Result<Changed, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    rules::change(&tx).await?;
    let sql = "update event_processors set enabled = coalesce($3, not enabled), updated_at = now() \
        where processor_id = $1 and coalesce(tenant_id, 'default') = $2 and deleted_at is null";
    if tx.execute(sql, &[&id, &tenant.as_str(), &enabled]).await? == 0 {
        return Ok(Changed::Missing);
    }
    tx.commit().await?;
    let found = find(&client, tenant, id).await?;
    Ok(found.map_or(Changed::Missing, |one| Changed::Done(Box::new(one))))
}

/// Deletes a processor that was registered through the API: it gets no more events, and what it had
/// still to do is skipped. False if there is none of that id.
///
/// # Errors
/// The database does not answer, or a storing transaction takes too long.
pub async fn delete(db: &Database, tenant: &TenantId, id: Uuid) -> Result<bool, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    rules::change(&tx).await?;
    let sql = "update event_processors set deleted_at = now() \
        where processor_id = $1 and tenant_id = $2 and deleted_at is null";
    let deleted = tx.execute(sql, &[&id, &tenant.as_str()]).await?;
    tx.commit().await?;
    Ok(deleted == 1)
}

async fn all(client: &Client, sql: &Sql) -> Result<Vec<StoredProcessor>, Error> {
    let rows = sql.rows(client).await?;
    Ok(rows
        .iter()
        .map(StoredProcessor::from_row)
        .collect::<Result<_, _>>()?)
}

impl StoredProcessor {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
        Ok(Self {
            processor_id: columns.next()?,
            tenant_id: columns.next::<Option<&str>>()?.and_then(TenantId::parse),
            processor_name: columns.next()?,
            processor_type: columns.next()?,
            enabled: columns.next()?,
            priority: columns.next()?,
            filters: json(columns.next()?),
            config: json(columns.next()?),
            from_code: columns.next()?,
            deleted: columns.next()?,
            error_count: columns.next()?,
            last_error: columns.next()?,
            last_processed_at: columns.next()?,
            created_at: columns.next()?,
            updated_at: columns.next()?,
        })
    }
}
