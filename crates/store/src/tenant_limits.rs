//! Limits of single tenants, where they are not those of the settings.

use domain::TenantId;
use domain::tenant_limits::{LimitedTenant, TenantLimits};
use tokio_postgres::Row;

use crate::error::Error;
use crate::pool::Client;

/// The tenants with limits of their own.
///
/// # Errors
/// The database does not answer.
pub(crate) async fn all(client: &Client) -> Result<Vec<LimitedTenant>, Error> {
    let sql = "select events_per_second, bytes_per_day, types_per_day, connections, tenant \
        from tenant_limits order by tenant";
    let rows = client.query(sql, &[]).await?;
    let limited = |row: &Row| -> Result<_, tokio_postgres::Error> {
        let tenant = TenantId::parse(row.try_get(4)?).unwrap_or_default();
        Ok((tenant, limits(row, 0)?))
    };
    Ok(rows.iter().map(limited).collect::<Result<_, _>>()?)
}

/// Those of one tenant; all as the settings say if it has none of its own.
///
/// # Errors
/// The database does not answer.
pub async fn of(client: &Client, tenant: &TenantId) -> Result<TenantLimits, Error> {
    let sql = "select events_per_second, bytes_per_day, types_per_day, connections \
        from tenant_limits where tenant = $1";
    let row = client.query_opt(sql, &[&tenant.as_str()]).await?;
    let limits = row.as_ref().map(|row| limits(row, 0));
    Ok(limits.transpose()?.unwrap_or_default())
}

/// Gives a tenant these limits in the place of those it has.
///
/// # Errors
/// The database does not answer.
pub async fn set(client: &Client, tenant: &TenantId, to: TenantLimits) -> Result<(), Error> {
    let tenant = tenant.as_str();
    if to == TenantLimits::default() {
        let sql = "delete from tenant_limits where tenant = $1";
        client.execute(sql, &[&tenant]).await?;
        return Ok(());
    }
    let sql = "insert into tenant_limits (tenant, events_per_second, bytes_per_day, types_per_day, connections) \
        values ($1::text, $2, $3, $4, $5) on conflict (tenant) do update set \
        events_per_second = excluded.events_per_second, bytes_per_day = excluded.bytes_per_day, \
        types_per_day = excluded.types_per_day, connections = excluded.connections, changed_at = now()";
    let [events, bytes, types, connections] = to.values();
    client
        .execute(sql, &[&tenant, &events, &bytes, &types, &connections])
        .await?;
    Ok(())
}

/// From four columns, of which this is the first.
pub(crate) fn limits(row: &Row, first: usize) -> Result<TenantLimits, tokio_postgres::Error> {
    Ok(TenantLimits::of([
        row.try_get(first)?,
        row.try_get(first + 1)?,
        row.try_get(first + 2)?,
        row.try_get(first + 3)?,
    ]))
}
