//! What a rule would have done, by the same judging as live.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use actix_web::{HttpRequest, HttpResponse, web};
use domain::anomaly::{Change, ChangeKind, watch};
use domain::field::Code;
use domain::json::whole;
use domain::timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::Problem;
use store::anomalies::{self, MAX_COUNTS, at_minute, minute_of};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::Anomaly;
use super::rules::{AnomalyRuleRequest, asked};
use crate::http::members::members;
use crate::http::page::fresh;
use crate::http::request::{body, tenant};
use crate::state::State;

/// Days of the past, unless it is said; and at most.
const DAYS: i64 = 7;
const MAX_DAYS: i64 = 35;
/// Alerts that are shown.
const SHOWN: usize = 1_000;

/// A rule, and how far back to try it.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the body")]
pub struct AnomalyTrialRequest {
    /// The rule as it would be saved; it needs no name.
    #[serde(flatten)]
    rule: AnomalyRuleRequest,
    #[schema(minimum = 1, maximum = 35, default = 7)]
    days: Option<i64>,
}

/// What a rule would have done.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnomalyTrial {
    /// From when it was tried.
    #[serde(serialize_with = "timestamp::serialize")]
    pub from: OffsetDateTime,
    /// Until when.
    #[serde(serialize_with = "timestamp::serialize")]
    pub until: OffsetDateTime,
    /// The first minute in that time which has counts; null if none has.
    #[serde(serialize_with = "timestamp::serialize_option")]
    #[schema(required = true)]
    pub counts_from: Option<OffsetDateTime>,
    /// How many alerts it would have opened.
    pub opened: usize,
    /// The alerts, the oldest first, at most 1,000.
    pub alerts: Vec<Anomaly>,
}

/// Tries a rule on the counts of the last days, before it is saved. Nothing is opened or sent.
///
/// # Errors
/// 422 for a wrong field, and for more counts than can be looked at; 503 while the database does not answer.
#[utoipa::path(post, path = "/api/v1/anomalies/rules/trial", tag = "anomalies",
    request_body = AnomalyTrialRequest,
    responses((status = 200, body = AnomalyTrial), (status = 400, description = "No JSON"),
        (status = 422, description = "A wrong field"), (status = 503, description = "Database down")))]
pub async fn run(
    request: HttpRequest,
    state: web::Data<State>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let mut members = members(&body(&request, payload).await?)?;
    let days = match members.remove("days") {
        None | Some(Value::Null) => Some(DAYS),
        Some(days) => whole(&days).filter(|days| (1..=MAX_DAYS).contains(days)),
    };
    let name = match members.get("name") {
        None | Some(Value::Null) => "trial",
        Some(name) => name.as_str().unwrap_or_default(),
    };
    let rules = [asked(name, &members)?];
    let Some(days) = days else {
        let message = format!("must be a whole number from 1 to {MAX_DAYS}");
        return Err(Problem::unprocessable("days", Code::OutOfRange, message));
    };
    let last = minute_of(service::clock::now());
    let minutes = last - days * 24 * 60..=last;
    let history = state
        .read("anomaly_trial", async |client| {
            anomalies::history(client, &tenant, &rules, minutes.clone()).await
        })
        .await?;
    let Some(history) = history else {
        let message = format!("are more than {MAX_COUNTS} counts; ask for fewer days");
        return Err(Problem::unprocessable("days", Code::OutOfRange, message));
    };
    let counts_from = history.minutes.iter().map(|count| count.minute);
    let counts_from = counts_from.filter(|minute| minutes.contains(minute)).min();
    let range = minutes.clone();
    let judging = web::block(move || watch(&rules, &history, vec![], range).0).await;
    let changes = judging.map_err(|error| Problem::internal(&error))?;
    Ok(fresh(&outcome(&minutes, counts_from, changes)))
}

fn outcome(
    minutes: &RangeInclusive<i64>,
    counts_from: Option<i64>,
    changes: Vec<Change>,
) -> AnomalyTrial {
    let mut alerts: Vec<Anomaly> = vec![];
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut opened = 0;
    for Change { kind, at, alert } in changes {
        if kind == ChangeKind::Opened {
            opened += 1;
            if alerts.len() < SHOWN {
                places.insert(alert.subject.clone(), alerts.len());
                alerts.push(Anomaly::new(alert, None));
            } else {
                places.remove(&alert.subject);
            }
            continue;
        }
        let resolved = (kind == ChangeKind::Resolved).then(|| at_minute(at));
        let place = places.get(&alert.subject).copied();
        if let Some(shown) = place.and_then(|at| alerts.get_mut(at)) {
            *shown = Anomaly::new(alert, resolved);
        }
    }
    AnomalyTrial {
        from: at_minute(*minutes.start()),
        until: at_minute(*minutes.end()),
        counts_from: counts_from.map(at_minute),
        opened,
        alerts,
    }
}
