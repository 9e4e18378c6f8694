//! The subscriptions of a tenant, page by page, and what failed last of each.

use std::collections::HashMap;

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::Error;
use crate::sql::Sql;
use crate::subscriptions::{COLUMNS, Subscription};

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it ended.
    pub at: OffsetDateTime,
    /// The status of the answer, if there was one.
    pub status: Option<i32>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Of a tenant, the oldest first: so many after so many others.
///
/// # Errors
/// The database does not answer.
pub async fn page(
    client: &Client,
    tenant: &TenantId,
    (limit, offset): (u32, u32),
) -> Result<Vec<Subscription>, Error> {
    let mut sql = Sql::new("select ");
    sql.push(COLUMNS)
        .push(" from event_subscriptions where tenant_id = ")
        .bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" order by created_at, subscription_id limit ")
        .bind(i64::from(limit), Type::INT8)
        .push(" offset ")
        .bind(i64::from(offset), Type::INT8);
    let rows = sql.rows(client).await?;
    rows.iter().map(Subscription::from_row).collect()
}

/// The last attempt of each of these that failed, if one of its last hundred did.
///
/// # Errors
/// The database does not answer.
pub async fn failures(client: &Client, of: &[Uuid]) -> Result<HashMap<Uuid, Failure>, Error> {
    let sql = "select u.id, last.at, last.status, last.error from unnest($1::uuid[]) u(id) cross join lateral ( \
            select * from (select id as n, outcome, at, status, error from webhook_attempts a \
                where a.subscription_id = u.id order by a.id desc limit 100) a \
            where outcome <> 'delivered' order by n desc limit 1) last";
    let rows = client.query(sql, &[&of]).await?;
    let mut failures = HashMap::new();
    for row in rows {
        let failure = Failure {
            at: row.try_get(1)?,
            status: row.try_get(2)?,
            error: row.try_get(3)?,
        };
        failures.insert(row.try_get(0)?, failure);
    }
    Ok(failures)
}
