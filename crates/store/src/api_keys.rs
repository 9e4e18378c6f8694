//! API keys, each by its hash alone.

use domain::TenantId;
use domain::access::{ApiKey, Known, Scopes};
use time::{Duration, OffsetDateTime};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::error::Error;
use crate::pool::{Client, Database};
use crate::tenant_limits;

const COLUMNS: &str = "id, tenant_id, hint, name, scopes, created_at, expires_at, revoked_at";

/// A key as it is managed.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Names it.
    pub id: Uuid,
    /// Whose events it is about.
    pub tenant: TenantId,
    /// How it begins, to tell keys apart.
    pub hint: String,
    /// What it is for.
    pub name: String,
    /// What it permits.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
    /// Since when it is no good any more.
    pub revoked_at: Option<OffsetDateTime>,
}

/// A key to be kept.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// How it begins.
    pub hint: String,
    /// Whose events it is about.
    pub tenant: TenantId,
    /// What it is for.
    pub name: String,
    /// What it permits.
    pub scopes: Scopes,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
}

/// All that services keep in memory: the keys that are good now, and the limits of tenants.
///
/// # Errors
/// The database does not answer.
pub async fn known(database: Database) -> Result<Known, Error> {
    let client = database.client().await?;
    Ok(Known {
        keys: all(&client).await?,
        limits: tenant_limits::all(&client).await?,
    })
}

async fn all(client: &Client) -> Result<Vec<ApiKey>, Error> {
    let sql = "select id, tenant_id, hash, scopes, expires_at from api_keys \
        where revoked_at is null and (expires_at is null or expires_at > now()) order by id";
    let rows = client.query(sql, &[]).await?;
    let key = |row: &Row| {
        Ok(ApiKey {
            id: row.try_get("id")?,
            hash: row
                .try_get::<_, &[u8]>("hash")?
                .try_into()
                .unwrap_or_default(),
            tenant: tenant(row)?,
            scopes: scopes(row)?,
            expires_at: row.try_get("expires_at")?,
        })
    };
    rows.iter().map(key).collect()
}

/// The keys of a tenant, or of all, the oldest first.
///
/// # Errors
/// The database does not answer.
pub async fn list(client: &Client, tenant: Option<&TenantId>) -> Result<Vec<StoredKey>, Error> {
    let sql = format!(
        "select {COLUMNS} from api_keys where $1::text is null or tenant_id = $1 order by created_at, id"
    );
    let rows = client.query(&sql, &[&tenant.map(TenantId::as_str)]).await?;
    rows.iter().map(stored).collect()
}

/// Keeps a new key.
///
/// # Errors
/// The database does not answer.
pub async fn create(client: &Client, key: &NewKey) -> Result<StoredKey, Error> {
    let sql = format!(
        "insert into api_keys (id, tenant_id, hash, hint, name, scopes, expires_at) \
         values ($1, $2::text, $3, $4, $5, $6, $7) returning {COLUMNS}"
    );
    let (id, tenant, hash) = (Uuid::now_v7(), key.tenant.as_str(), key.hash.as_slice());
    let scopes = key.scopes.words();
    let row = client
        .query_one(
            &sql,
            &[
                &id,
                &tenant,
                &hash,
                &key.hint,
                &key.name,
                &scopes,
                &key.expires_at,
            ],
        )
        .await?;
    stored(&row)
}

/// A key that is good now.
///
/// # Errors
/// The database does not answer.
pub async fn find(
    client: &Client,
    tenant: Option<&TenantId>,
    id: Uuid,
) -> Result<Option<StoredKey>, Error> {
    let sql = format!(
        "select {COLUMNS} from api_keys where id = $1 and ($2::text is null or tenant_id = $2) \
         and revoked_at is null and (expires_at is null or expires_at > now())"
    );
    let row = client
        .query_opt(&sql, &[&id, &tenant.map(TenantId::as_str)])
        .await?;
    row.as_ref().map(stored).transpose()
}

/// Puts a new key in the place of that one, which is good for `overlap` longer. `None` if that one is no
/// good any more.
///
/// # Errors
/// The database does not answer.
pub async fn replace(
    client: &Client,
    id: Uuid,
    overlap: Duration,
    new: &NewKey,
) -> Result<Option<StoredKey>, Error> {
    let sql = format!(
        "with old as (update api_keys \
             set expires_at = least(expires_at, now() + $8::float8 * interval '1 second') \
             where id = $9 and revoked_at is null and (expires_at is null or expires_at > now()) \
             returning id) \
         insert into api_keys (id, tenant_id, hash, hint, name, scopes, expires_at) \
         select $1::uuid, $2::text, $3::bytea, $4::text, $5::text, $6::text[], $7::timestamptz from old returning {COLUMNS}"
    );
    let (fresh, tenant, hash) = (Uuid::now_v7(), new.tenant.as_str(), new.hash.as_slice());
    let (scopes, overlap) = (new.scopes.words(), overlap.as_seconds_f64());
    let row = client
        .query_opt(
            &sql,
            &[
                &fresh,
                &tenant,
                &hash,
                &new.hint,
                &new.name,
                &scopes,
                &new.expires_at,
                &overlap,
                &id,
            ],
        )
        .await?;
    row.as_ref().map(stored).transpose()
}

/// Ends a key; `None` if there is no such key. One that is ended stays as it was.
///
/// # Errors
/// The database does not answer.
pub async fn revoke(
    client: &Client,
    tenant: Option<&TenantId>,
    id: Uuid,
) -> Result<Option<StoredKey>, Error> {
    let sql = format!(
        "update api_keys set revoked_at = coalesce(revoked_at, now()) \
         where id = $1 and ($2::text is null or tenant_id = $2) returning {COLUMNS}"
    );
    let row = client
        .query_opt(&sql, &[&id, &tenant.map(TenantId::as_str)])
        .await?;
    row.as_ref().map(stored).transpose()
}

fn stored(row: &Row) -> Result<StoredKey, Error> {
    Ok(StoredKey {
        id: row.try_get("id")?,
        tenant: tenant(row)?,
        hint: row.try_get("hint")?,
        name: row.try_get("name")?,
        scopes: scopes(row)?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    })
}

fn tenant(row: &Row) -> Result<TenantId, Error> {
    Ok(TenantId::parse(row.try_get("tenant_id")?).unwrap_or_default())
}

fn scopes(row: &Row) -> Result<Scopes, Error> {
    let words: Vec<&str> = row.try_get("scopes")?;
    Ok(Scopes::parse(words).unwrap_or_default())
}
