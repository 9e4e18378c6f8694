//! The rules that a tenant is judged by.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use domain::anomaly::Rule;
use domain::field::Code;
use domain::timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service::Problem;
use store::anomalies::{self, MAX_RULES, StoredRule};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::http::members::members;
use crate::http::page::{fresh, fresh_as};
use crate::http::request::{body, tenant};
use crate::state::State;

/// A rule; what is not said is as its kind has it.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Rule::read reads it, naming every wrong field"
)]
pub struct AnomalyRuleRequest {
    /// Unique; 1 to 100 characters.
    #[schema(example = "checkout-errors")]
    pub(super) name: Option<String>,
    /// `error_rate`, `surge` or `silence`.
    #[schema(example = "error_rate")]
    pub(super) kind: String,
    /// Of an error rate: `source`, `api` (the `endpoint` or `api` in the events' data) or `type` (the name
    /// up to its last dot, underscore or dash).
    #[schema(default = "source")]
    pub(super) by: Option<String>,
    /// Patterns of types it is about (`order.*`); none means all.
    pub(super) event_types: Option<Vec<String>>,
    /// Sources it is about; none means all.
    pub(super) event_sources: Option<Vec<String>>,
    /// Patterns of types that are errors.
    #[schema(example = json!(["**.*error*.**", "**.*fail*.**"]))]
    pub(super) error_types: Option<Vec<String>>,
    /// Of an error rate the share that is too much (0.05), of a surge the multiple of what is usual (3), of a
    /// silence the share of it (0.2).
    pub(super) threshold: Option<f64>,
    /// Fewer events tell nothing: of an error rate in the window (100), of a surge in the window (50), of a
    /// silence usual in it (30).
    #[schema(minimum = 1)]
    pub(super) min_events: Option<i64>,
    #[schema(minimum = 1, maximum = 60, default = 5)]
    pub(super) window_minutes: Option<i64>,
    /// How long all must be well before an alert is resolved.
    #[schema(minimum = 1, maximum = 1_440, default = 10)]
    pub(super) resolve_minutes: Option<i64>,
    /// The events that tell of its alerts are this user's, and go live to the user.
    pub(super) user_id: Option<String>,
    #[schema(default = true)]
    pub(super) enabled: Option<bool>,
}

/// A rule.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnomalyRule {
    /// The rule, with everything it says.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub rule: Rule,
    /// It comes with Tidegate; a rule of the same name takes its place.
    pub is_default: bool,
    /// When it was made.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub created_at: Option<OffsetDateTime>,
    /// When it was changed last.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub updated_at: Option<OffsetDateTime>,
}

/// The rules that are applied, those of the tenant and the defaults.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnomalyRules {
    /// The rules, by name.
    pub rules: Vec<AnomalyRule>,
}

/// What became of a rule that is no more.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnomalyRuleDeleted {
    /// `deleted`.
    #[schema(example = "deleted")]
    pub status: &'static str,
    /// Its name.
    pub name: String,
}

impl AnomalyRule {
    fn stored(stored: StoredRule) -> Self {
        Self {
            rule: stored.rule,
            is_default: false,
            created_at: Some(stored.created_at),
            updated_at: Some(stored.updated_at),
        }
    }
}

/// The rules that anomalies are found by.
///
/// # Errors
/// 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/anomalies/rules", tag = "anomalies",
    responses((status = 200, body = AnomalyRules), (status = 503, description = "Database down")))]
pub async fn list(request: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Ok(fresh(&AnomalyRules {
        rules: all(&request, &state).await?,
    }))
}

/// One of them.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/anomalies/rules/{name}", tag = "anomalies",
    params(("name" = String, Path, description = "The rule")),
    responses((status = 200, body = AnomalyRule), (status = 404, description = "No such rule"),
        (status = 503, description = "Database down")))]
pub async fn read(
    request: HttpRequest,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let rules = all(&request, &state).await?;
    let rule = rules.into_iter().find(|one| one.rule.name == *name);
    rule.map(|rule| fresh(&rule)).ok_or_else(|| missing(&name))
}

async fn all(request: &HttpRequest, state: &State) -> Result<Vec<AnomalyRule>, Problem> {
    let tenant = tenant(request);
    let own = state
        .read("anomaly_rules", async |client| {
            anomalies::rules(client, &tenant).await
        })
        .await?;
    let names: Vec<String> = own.iter().map(|one| one.rule.name.clone()).collect();
    let defaults = Rule::defaults().into_iter();
    let defaults = defaults.filter(|rule| !names.contains(&rule.name));
    let defaults = defaults.map(|rule| AnomalyRule {
        rule,
        is_default: true,
        created_at: None,
        updated_at: None,
    });
    let mut rules: Vec<_> = defaults
        .chain(own.into_iter().map(AnomalyRule::stored))
        .collect();
    rules.sort_by(|a, b| a.rule.name.cmp(&b.rule.name));
    Ok(rules)
}

/// Makes a rule.
///
/// # Errors
/// 409 if there is one of that name, or there are too many; 422 for a wrong field; 503 while the database
/// does not answer.
#[utoipa::path(post, path = "/api/v1/anomalies/rules", tag = "anomalies",
    request_body = AnomalyRuleRequest,
    responses((status = 201, body = AnomalyRule), (status = 400, description = "No JSON"),
        (status = 409, description = "There is one of that name, or there are too many"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn create(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let members = members(&body(&request, payload).await?)?;
    let name = members.get("name").and_then(Value::as_str);
    let rule = asked(name.unwrap_or_default(), &members)?;
    save(&request, &state, &rule, true).await
}

/// Puts a rule in the place of that of its name, which may be a default; makes it if there is none.
///
/// # Errors
/// As [`create`], but for the name that is taken.
#[utoipa::path(put, path = "/api/v1/anomalies/rules/{name}", tag = "anomalies",
    params(("name" = String, Path, description = "The rule")),
    request_body = AnomalyRuleRequest,
    responses((status = 200, body = AnomalyRule), (status = 201, body = AnomalyRule, description = "It is new"),
        (status = 400, description = "No JSON"), (status = 409, description = "There are too many"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn replace(
    request: HttpRequest,
    state: web::Data<State>,
    name: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let members = members(&body(&request, payload).await?)?;
    let named = members.get("name").filter(|named| !named.is_null());
    if named.is_some_and(|named| named.as_str().map(str::trim) != Some(name.trim())) {
        let message = "must be that of the path, or left out";
        return Err(Problem::unprocessable("name", Code::OutOfRange, message));
    }
    let rule = asked(&name, &members)?;
    save(&request, &state, &rule, false).await
}

/// Deletes a rule; its open alerts are resolved. Where it replaced a default, that is back.
///
/// # Errors
/// 404 if there is none, 503 while the database does not answer.
#[utoipa::path(delete, path = "/api/v1/anomalies/rules/{name}", tag = "anomalies",
    params(("name" = String, Path, description = "The rule")),
    responses((status = 200, body = AnomalyRuleDeleted), (status = 404, description = "No such rule"),
        (status = 503, description = "Database down")))]
pub async fn delete(
    request: HttpRequest,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    // No rule has such a name, and PostgreSQL no such text.
    if name.contains('\0') {
        return Err(missing(&name));
    }
    let deleted = state
        .change("anomaly_rules", async |db| {
            anomalies::delete(&**db.client().await?, &tenant, &name).await
        })
        .await?;
    if !deleted {
        return Err(missing(&name));
    }
    Ok(fresh(&AnomalyRuleDeleted {
        status: "deleted",
        name: name.into_inner(),
    }))
}

/// The rule of a body.
///
/// # Errors
/// 422 for everything that is wrong with it.
pub(super) fn asked(name: &str, members: &Map<String, Value>) -> Result<Rule, Problem> {
    Rule::read(name, members).map_err(Problem::unprocessables)
}

async fn save(
    request: &HttpRequest,
    state: &State,
    rule: &Rule,
    is_new: bool,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(request);
    let saved = state
        .change("anomaly_rules", async |db| {
            let client = db.client().await?;
            if is_new {
                let rules = anomalies::rules(&client, &tenant).await?;
                if rules.iter().any(|one| one.rule.name == rule.name) {
                    return Ok(Err(format!("There is a rule named {} already", rule.name)));
                }
            }
            let saved = anomalies::put(&**client, &tenant, rule).await?;
            Ok(saved.ok_or_else(|| format!("There are {MAX_RULES} rules already")))
        })
        .await?;
    let (made, stored) = saved.map_err(|detail| Problem::new(StatusCode::CONFLICT, detail))?;
    let status = if made {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(fresh_as(status, &AnomalyRule::stored(stored)))
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format!("There is no rule {name}"))
}
