//! API keys, managed: made, listed, replaced, ended. A key is shown once, where it is made.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::access::{KeyKind, Scope, Scopes};
use domain::field::Code;
use domain::{TenantId, timestamp};
use serde::{Deserialize, Serialize};
use service::Problem;
use service::auth::api_key;
use store::api_keys::{self, NewKey, StoredKey};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::page::{fresh, fresh_as};
use super::request::{body, named_tenant, tenant, within};
use crate::parameters::Parameters;
use crate::state::State;

/// Days until a key ends, at most.
const MAX_DAYS: u32 = 3_650;
/// Seconds that a replaced key goes on, at most.
const MAX_OVERLAP: u32 = 90 * 86_400;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Parameters reads it, naming every wrong field"
)]
pub struct KeyRequest {
    /// What it is for.
    #[schema(example = "shop")]
    name: String,
    /// `write`: for browsers and apps, may only send. `secret` (default): for services.
    kind: Option<String>,
    /// Of `write`, `read`, `replay` and `admin`; default write and read, for a write key write.
    scopes: Option<Vec<String>>,
    /// Default: that of who asks. Others only for an admin of the default tenant.
    tenant: Option<String>,
    /// Days until it ends; by default it does not.
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
}

/// How a key is replaced.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Parameters reads it, naming every wrong field"
)]
pub struct RotateRequest {
    /// Seconds that the old one goes on.
    #[schema(maximum = 7_776_000, default = 3600)]
    overlap_seconds: Option<u32>,
}

/// A key, without the key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// Names it.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// Whose events it is about.
    pub tenant: String,
    /// How it begins.
    #[schema(example = "tg_secret_Ab3x")]
    pub hint: String,
    /// What it permits.
    pub scopes: Vec<&'static str>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends.
    #[schema(required = true, format = DateTime)]
    pub expires_at: Option<String>,
    /// Since when it is no good any more.
    #[schema(required = true, format = DateTime)]
    pub revoked_at: Option<String>,
}

/// A new key.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewApiKey {
    /// The key itself: shown now, and never again.
    #[schema(example = "tg_secret_…")]
    pub key: String,
    /// What is known of it.
    #[serde(flatten)]
    pub about: Key,
}

/// Keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct Keys {
    /// The oldest first.
    pub keys: Vec<Key>,
}

/// The keys of the tenant; an admin of the default tenant is shown all.
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/admin/keys", tag = "keys", operation_id = "list_keys",
    responses((status = 200, body = Keys), (status = 401, description = "No credentials"),
        (status = 403, description = "Not an admin"), (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let within = within(&request);
    let keys = state
        .read("keys", async |client| {
            api_keys::list(client, within.as_ref()).await
        })
        .await?;
    Ok(fresh(&Keys {
        keys: keys.into_iter().map(Key::from).collect(),
    }))
}

/// Makes a key. The answer is the only place where it is ever shown.
///
/// # Errors
/// 422 for a wrong field, 403 for another tenant, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/admin/keys", tag = "keys", operation_id = "create_key", request_body = KeyRequest,
    responses((status = 201, body = NewApiKey), (status = 400, description = "No JSON, or an unknown name"), (status = 403, description = "Not an admin, or of another tenant"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let name = parameters.text("name").filter(|name| !name.is_empty());
    if name.is_none() {
        parameters.refuse("name", Code::Missing, "is required: what the key is for");
    }
    let kinds = [KeyKind::Write, KeyKind::Secret];
    let kind = parameters.choice("kind", &kinds, |kind| match kind {
        KeyKind::Write => "write",
        KeyKind::Secret => "secret",
    });
    let kind = kind.unwrap_or(KeyKind::Secret);
    let scopes = scopes(&mut parameters, kind);
    let named = named_tenant(&mut parameters, &request);
    let days = parameters.integer("expires_in_days", 1, MAX_DAYS);
    parameters.finish()?;
    let (own, tenant) = (tenant(&request), named?);
    let expires_at = days.map(|days| service::clock::now() + Duration::days(days.into()));
    let (key, new) = made(kind, name.unwrap_or_default(), tenant, scopes, expires_at)?;
    let stored = state
        .read("keys", async |client| api_keys::create(client, &new).await)
        .await?;
    tracing::info!(id = %stored.id, tenant = %stored.tenant, by = %own, "an API key was made");
    Ok(shown(key, stored))
}

/// Makes a key with the same tenant, scopes and name; the old one goes on for a while, so that all who use
/// it can change.
///
/// # Errors
/// 404 if there is no such key that is good, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/admin/keys/{id}/rotate", tag = "keys", operation_id = "rotate_key",
    params(("id" = Uuid, Path)), request_body = RotateRequest,
    responses((status = 201, body = NewApiKey), (status = 400, description = "No JSON"), (status = 404, description = "No such key"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn rotate(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let overlap = parameters.integer("overlap_seconds", 0, MAX_OVERLAP);
    parameters.finish()?;
    let overlap = Duration::seconds(overlap.unwrap_or(3_600).into());
    let (id, within) = (named(&id)?, within(&request));
    let found = state
        .read("keys", async |client| {
            api_keys::find(client, within.as_ref(), id).await
        })
        .await?;
    let Some(old) = found else {
        return Err(no_key());
    };
    let kind = KeyKind::of_hint(&old.hint);
    let expires_at = old.expires_at;
    let (key, new) = made(kind, old.name, old.tenant, old.scopes, expires_at)?;
    let stored = state
        .read("keys", async |client| {
            api_keys::replace(client, id, overlap, &new).await
        })
        .await?;
    let stored = stored.ok_or_else(no_key)?;
    tracing::info!(old = %id, new = %stored.id, tenant = %stored.tenant, "an API key was replaced");
    Ok(shown(key, stored))
}

/// Ends a key: within five seconds no service takes it any more.
///
/// # Errors
/// 404 if there is no such key, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/admin/keys/{id}/revoke", tag = "keys", operation_id = "revoke_key",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Key), (status = 404, description = "No such key"),
        (status = 503, description = "Database down")))]
pub async fn revoke(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (id, within) = (named(&id)?, within(&request));
    let stored = state
        .read("keys", async |client| {
            api_keys::revoke(client, within.as_ref(), id).await
        })
        .await?;
    let stored = stored.ok_or_else(no_key)?;
    tracing::info!(id = %stored.id, tenant = %stored.tenant, "an API key was ended");
    Ok(fresh(&Key::from(stored)))
}

fn scopes(parameters: &mut Parameters<'_>, kind: KeyKind) -> Scopes {
    let default = match kind {
        KeyKind::Write => Scopes::of(&[Scope::Write]),
        KeyKind::Secret => Scopes::of(&[Scope::Write, Scope::Read]),
    };
    let Some(words) = parameters.words("scopes") else {
        return default;
    };
    match Scopes::parse(words.iter().map(String::as_str)) {
        None => {
            let message = "must be of write, read, replay and admin";
            parameters.refuse("scopes", Code::IllegalValue, message);
        }
        Some(scopes) if scopes.is_empty() => {
            parameters.refuse("scopes", Code::Missing, "must not be empty");
        }
        Some(scopes) if kind == KeyKind::Write && scopes != default => {
            let message = "of a write key is write alone: everybody can read it in the page";
            parameters.refuse("scopes", Code::IllegalValue, message);
        }
        Some(scopes) => return scopes,
    }
    default
}

/// A fresh key, and what is kept of it.
fn made(
    kind: KeyKind,
    name: String,
    tenant: TenantId,
    scopes: Scopes,
    expires_at: Option<OffsetDateTime>,
) -> Result<(String, NewKey), Problem> {
    let key = api_key::fresh(kind).map_err(|error| Problem::internal(&error))?;
    let new = NewKey {
        hash: api_key::hash(&key),
        hint: api_key::hint(&key),
        tenant,
        name,
        scopes,
        expires_at,
    };
    Ok((key, new))
}

fn shown(key: String, stored: StoredKey) -> HttpResponse {
    let new = NewApiKey {
        key,
        about: stored.into(),
    };
    fresh_as(StatusCode::CREATED, &new)
}

fn named(id: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(id).map_err(|_| no_key())
}

fn no_key() -> Problem {
    Problem::not_found("There is no such key")
}

impl From<StoredKey> for Key {
    fn from(key: StoredKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            tenant: key.tenant.to_string(),
            hint: key.hint,
            scopes: key.scopes.words(),
            created_at: timestamp::format(key.created_at),
            expires_at: key.expires_at.map(timestamp::format),
            revoked_at: key.revoked_at.map(timestamp::format),
        }
    }
}
