//! Trying a subscription: which of the last events it would have been sent, and a test event.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::envelope::Origin;
use domain::field::Code;
use domain::json::whole;
use domain::{
    Context, Event, EventCategory, EventSource, FieldError, Limits, Selector, TenantId, timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service::Problem;
use store::event_reads::{self, Window};
use store::subscriptions::Subscription;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;
use webhook::{Message, Secret};

use super::reads::find;
use crate::http::members::{members, unknown};
use crate::http::page::fresh;
use crate::http::request::{body, tenant};
use crate::parameters::{MAX_LIMIT, Parameters};
use crate::state::State;

/// The type of a test event.
const TEST_EVENT: &str = "webhook.test";

/// A selector, as in a subscription, to be tried.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body; Selector reads it")]
pub struct SelectorTrial {
    /// Patterns of types; none means all, here and below.
    event_types: Option<Vec<String>>,
    event_sources: Option<Vec<String>>,
    event_categories: Option<Vec<String>>,
    /// Ids of users.
    users: Option<Vec<String>>,
    /// A condition on what the event carries.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// How many of the last events are looked at.
    #[schema(minimum = 1, maximum = 1000, default = 1000)]
    limit: Option<u32>,
}

/// Which of the last events a selector would have chosen.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialOutcome {
    /// Events looked at: as many as were asked for, unless there are fewer or they are large.
    pub examined: usize,
    /// How many of them it chooses.
    pub matched: usize,
    /// These, the newest first.
    pub events: Vec<Chosen>,
}

/// An event that a selector chooses.
#[derive(Debug, Serialize, ToSchema)]
pub struct Chosen {
    /// The event.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// When it happened.
    #[serde(serialize_with = "timestamp::serialize")]
    pub timestamp: OffsetDateTime,
}

/// What an endpoint answered to a test event.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestOutcome {
    /// Whether it answered 2xx.
    pub delivered: bool,
    /// Its status, if it answered.
    #[schema(required = true)]
    pub status: Option<u16>,
    /// How long that took.
    pub duration_ms: u64,
    /// The beginning of its answer.
    pub response: String,
    /// Why there is no answer, or none that counts.
    #[schema(required = true)]
    pub error: Option<String>,
    /// The test event, as it was sent.
    #[schema(value_type = Object)]
    pub event: Value,
}

/// Which of the last events a selector would have chosen; nothing is sent.
///
/// # Errors
/// 422 for a wrong field, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions/dry-run", tag = "subscriptions",
    request_body = SelectorTrial,
    responses((status = 200, body = TrialOutcome), (status = 400, description = "No JSON"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn dry_run(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let members = members(&body(&request, payload).await?)?;
    let mut errors = vec![];
    let known: Vec<&str> = Selector::FIELDS.into_iter().chain(["limit"]).collect();
    unknown(&members, &known, &mut errors);
    let selector = Selector::read_from(&members, &mut errors);
    let limit = match members.get("limit") {
        None | Some(Value::Null) => Some(MAX_LIMIT),
        Some(value) => whole(value),
    };
    let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
    if limit.is_none() {
        let message = format!("must be a whole number from 1 to {MAX_LIMIT}");
        errors.push(FieldError::new("limit", Code::OutOfRange, message));
    }
    let (Some(limit), true) = (limit, errors.is_empty()) else {
        return Err(Problem::unprocessables(errors));
    };
    let filter = Parameters::from_query("")?.filter(tenant(&request));
    let window = Window {
        limit,
        offset: 0,
        after: None,
    };
    let fetched = state
        .read("dry_run", async |client| {
            let edges = state.edges(client).await?;
            event_reads::list(client, &edges, &filter, &window, state.max_response_bytes).await
        })
        .await?;
    let _held = state.hold(fetched.bytes)?;
    let events = fetched.rows.iter().map(|row| &row.event);
    let chosen = events.filter(|event| selector.matches(event));
    let chosen: Vec<Chosen> = chosen
        .map(|event| Chosen {
            event_id: event.event_id,
            event_type: event.event_type.clone(),
            timestamp: event.timestamp,
        })
        .collect();
    Ok(fresh(&TrialOutcome {
        examined: fetched.rows.len(),
        matched: chosen.len(),
        events: chosen,
    }))
}

/// Sends a test event, of type `webhook.test`, to a subscription's endpoint, once and signed as always.
/// It is not stored.
///
/// # Errors
/// 404 if there is no such subscription, 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/events/subscriptions/{subscription_id}/test", tag = "subscriptions",
    params(("subscription_id" = Uuid, Path, description = "The subscription")),
    responses((status = 200, body = TestOutcome), (status = 404, description = "No such subscription"),
        (status = 503, description = "Database down")))]
pub async fn test(
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let subscription = find(&request, &state, &id).await?;
    let event = test_event(&subscription).ok_or_else(|| Problem::internal(&"no test event"))?;
    let format = subscription.settings.format;
    let body = format.write(&event);
    let now = service::clock::now();
    let previous = subscription.previous.as_ref();
    let previous = previous
        .filter(|(_, until)| *until > now)
        .map(|(secret, _)| secret);
    let secrets = std::iter::once(&subscription.secret).chain(previous);
    let secrets = secrets.filter_map(|secret| Secret::parse(secret.expose()).ok());
    let secrets: Vec<Secret> = secrets.collect();
    let id = event.event_id.to_string();
    let (at, kind) = (now.unix_timestamp(), format.media_type());
    let message = Message::signed(&id, at, kind, body.clone().into(), &secrets);
    let answer = state
        .webhooks
        .send(&subscription.settings.callback_url, message)
        .await;
    Ok(fresh(&TestOutcome {
        delivered: answer.delivered(),
        status: answer.status,
        duration_ms: answer.took.as_millis().try_into().unwrap_or(u64::MAX),
        error: (!answer.delivered()).then(|| answer.why()),
        response: answer.excerpt,
        event: serde_json::from_slice(&body).unwrap_or_default(),
    }))
}

fn test_event(subscription: &Subscription) -> Option<Event> {
    let now = service::clock::now();
    let tenant: &TenantId = &subscription.tenant_id;
    let cx = Context {
        origin: Origin::Log,
        tenant,
        received_at: now,
        now,
        fresh_id: service::clock::fresh_id(),
        default_source: EventSource::System,
        default_category: EventCategory::System,
        content_type: None,
        limits: Limits::default(),
    };
    let name = &subscription.settings.subscriber_name;
    let data = json!({"subscription_id": subscription.subscription_id, "subscriber_name": name});
    let body = json!({"event_type": TEST_EVENT, "data": data});
    domain::decode(body.to_string().as_bytes(), &cx).ok()
}
