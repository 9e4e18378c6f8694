//! The rules of a tenant.

use domain::TenantId;
use domain::anomaly::Rule;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::{Client, GenericClient, Row};

use crate::error::Error;

/// Rules of one tenant, at most.
pub const MAX_RULES: i64 = 200;

/// A rule that a tenant has made.
#[derive(Debug, Clone)]
pub struct StoredRule {
    /// The rule.
    pub rule: Rule,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

impl StoredRule {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let (name, rule): (&str, Value) = (row.try_get(0)?, row.try_get(1)?);
        let members = rule.as_object().cloned().unwrap_or_default();
        let rule = Rule::read(name, &members).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Error::Stored(format!("the rule {name}: {}", errors.join("; ")))
        })?;
        Ok(Self {
            rule,
            created_at: row.try_get(2)?,
            updated_at: row.try_get(3)?,
        })
    }
}

/// The rules that a tenant has made, by name.
///
/// # Errors
/// The database does not answer.
pub async fn rules(client: &Client, tenant: &TenantId) -> Result<Vec<StoredRule>, Error> {
    let sql = "select name, rule, created_at, updated_at from anomaly_rules where tenant = $1 order by name";
    let rows = client.query(sql, &[&tenant.as_str()]).await?;
    rows.iter().map(StoredRule::from_row).collect()
}

/// The rules that a tenant is judged by: its own, and the defaults that none of its own replaces.
///
/// # Errors
/// The database does not answer.
pub async fn active(client: &Client, tenant: &TenantId) -> Result<Vec<Rule>, Error> {
    let own = rules(client, tenant).await?;
    Ok(Rule::with_defaults(
        own.into_iter().map(|stored| stored.rule).collect(),
    ))
}

/// Makes a rule, or puts it in the place of that of its name; `None` if there are [`MAX_RULES`]. True if
/// it is new.
///
/// # Errors
/// The database does not answer.
pub async fn put(
    client: &impl GenericClient,
    tenant: &TenantId,
    rule: &Rule,
) -> Result<Option<(bool, StoredRule)>, Error> {
    let sql = "insert into anomaly_rules (tenant, name, rule) select $1::text, $2::text, $3::jsonb \
        where (select count(*) from anomaly_rules where tenant = $1) < $4 \
            or exists (select from anomaly_rules where tenant = $1 and name = $2) \
        on conflict (tenant, name) do update set rule = excluded.rule, updated_at = now() \
        returning name, rule, created_at, updated_at, xmax = 0";
    let written = serde_json::to_value(rule).unwrap_or_default();
    let row = client
        .query_opt(sql, &[&tenant.as_str(), &rule.name, &written, &MAX_RULES])
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((row.try_get(4)?, StoredRule::from_row(&row)?)))
}

/// Deletes a rule; false if there is none. Its alerts are resolved when it is judged next.
///
/// # Errors
/// The database does not answer.
pub async fn delete(
    client: &impl GenericClient,
    tenant: &TenantId,
    name: &str,
) -> Result<bool, Error> {
    let sql = "delete from anomaly_rules where tenant = $1 and name = $2";
    Ok(client.execute(sql, &[&tenant.as_str(), &name]).await? > 0)
}
