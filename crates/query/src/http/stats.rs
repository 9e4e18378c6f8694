//! Statistics.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use domain::timestamp;
use serde::Serialize;
use service::Problem;
use store::statistics::{self, Scope, Statistics};
use store::user_counts::{self, UserCounts};
use time::{Date, Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::request::tenant;
use crate::cache::Key;
use crate::parameters::Parameters;
use crate::state::State;

/// Types listed in `top_event_types`.
const TOP: usize = 10;

/// Counts of events (S4-28, S4-29, C08). Days are UTC.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventStatistics {
    /// All events.
    pub total_events: i64,
    /// Those that wait for their handlers.
    pub pending_events: i64,
    /// Those that are done.
    pub processed_events: i64,
    /// Those whose handlers gave up.
    pub failed_events: i64,
    /// Those of today.
    pub events_today: i64,
    /// Those since seven days before today.
    pub events_this_week: i64,
    /// Those since thirty days before today.
    pub events_this_month: i64,
    /// Per cent of all that are processed; 0 without events.
    pub processing_rate: f64,
    /// Per cent of all that failed; 0 without events.
    pub error_rate: f64,
    /// Events of the period by type; of very many types the most frequent 1,000.
    pub events_by_type: BTreeMap<String, i64>,
    /// Events of the period by source.
    pub events_by_source: BTreeMap<String, i64>,
    /// Events of the period by category.
    pub events_by_category: BTreeMap<String, i64>,
    /// The ten most frequent types of the period.
    pub top_event_types: Vec<TypeCount>,
    /// Events of the period by day and type, the latest day first, at most 10,000 entries.
    pub events_by_day: Vec<DailyCount>,
    /// How many different users each day of the period had, UTC, the latest first: exact, counted a few seconds
    /// after the events (`users_counted_until`). Not of one user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_users_by_day: Option<Vec<DailyUsers>>,
    /// The ten users with the most events in the days of the period, of the hundred busiest of each day. Not of one user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_users: Option<Vec<UserCount>>,
    /// What was stored before this is in `unique_users_by_day`, `top_users` and `average_processing_time`.
    #[serde(
        serialize_with = "timestamp::serialize_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub users_counted_until: Option<OffsetDateTime>,
    /// Milliseconds from accepted to stored, of the events of the days of the period (a user's: of the period), in
    /// the mean, by the clocks of gateway and database; null without events.
    #[schema(required = true)]
    pub average_processing_time: Option<f64>,
    /// The period of the breakdowns and the series.
    pub period: Period,
    /// Only this user's events were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// When this was computed.
    #[serde(serialize_with = "timestamp::serialize")]
    pub calculated_at: OffsetDateTime,
}

/// Events of a type.
#[derive(Debug, Serialize, ToSchema)]
pub struct TypeCount {
    /// The type.
    pub event_type: String,
    /// How many.
    pub count: i64,
}

/// Events of a type on a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyCount {
    /// The day, UTC.
    #[schema(format = Date)]
    pub date: String,
    /// The type.
    pub event_type: String,
    /// How many.
    pub count: i64,
}

/// Users of a day.
#[derive(Debug, Serialize, ToSchema)]
pub struct DailyUsers {
    /// The day, UTC.
    #[schema(format = Date)]
    pub date: String,
    /// How many different ones.
    pub users: i64,
}

/// Events of a user.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserCount {
    /// The user.
    pub user_id: String,
    /// How many.
    pub count: i64,
}

/// What the breakdowns are about.
#[derive(Debug, Serialize, ToSchema)]
pub struct Period {
    /// Begin, inclusive.
    #[serde(serialize_with = "timestamp::serialize")]
    pub start_time: OffsetDateTime,
    /// End, inclusive; null = open.
    #[serde(serialize_with = "timestamp::serialize_option")]
    pub end_time: Option<OffsetDateTime>,
}

/// How many events there are and of what kinds (S4-27 to S4-29, S1-20). Counted in the transaction
/// that stored them: exact, and as fast with a billion events as with none; a user's are counted
/// one by one.
///
/// # Errors
/// 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/stats", tag = "statistics",
    params(("user_id" = Option<String>, Query, description = "count only this user's events"),
        ("start_time" = Option<String>, Query, description = "begin of the breakdowns; default 30 days ago; also started_at"),
        ("end_time" = Option<String>, Query, description = "their end; default open; also ended_at")),
    responses((status = 200, body = EventStatistics), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn statistics(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let now = service::clock::now();
    let today = now.date();
    let mut parameters = Parameters::from_query(request.query_string())?;
    let scope = Scope {
        tenant_id: tenant(&request),
        user_id: parameters.text("user_id"),
        today,
        start: parameters
            .time(&["start_time", "started_at"])
            .unwrap_or_else(|| (today - Duration::days(30)).midnight().assume_utc()),
        end: parameters.time(&["end_time", "ended_at"]),
    };
    parameters.finish()?;
    let key = Key::new(
        "statistics",
        &scope.tenant_id,
        &[&scope],
        state.kept.statistics,
    );
    let load = async || {
        let read = state.read("statistics", async |client| {
            let edges = state.edges(client).await?;
            let counts = statistics::read(client, &edges, &scope).await?;
            if scope.user_id.is_some() {
                return Ok((counts, None));
            }
            let (from, to) = (scope.start.date(), scope.end.map(|end| end.date()));
            let users = user_counts::read(client, &scope.tenant_id, from, to).await?;
            Ok((counts, Some(users)))
        });
        let (counts, users) = read.await?;
        Ok(answer(&scope, counts, users, now))
    };
    state.answer_kept(key, load).await
}

fn answer(
    scope: &Scope,
    counts: Statistics,
    users: Option<UserCounts>,
    now: OffsetDateTime,
) -> EventStatistics {
    let of_status = |status: &str| {
        let found = counts.open.iter().find(|(name, _)| name == status);
        found.map_or(0, |(_, count)| *count)
    };
    let open: i64 = counts.open.iter().map(|(_, count)| count).sum();
    let total = counts.total;
    let processed = (total - open).max(0);
    let failed = of_status("failed");
    let (stored, seconds) = users.as_ref().map_or_else(
        || (counts.by_type.iter().map(|(_, n)| n).sum(), counts.seconds),
        |users| (users.events, users.seconds),
    );
    let users_counted_until = users.as_ref().and_then(|users| users.until);
    let (by_day, top) = users.map(|users| (users.users, users.top)).unzip();
    EventStatistics {
        total_events: total,
        pending_events: of_status("pending"),
        processed_events: processed,
        failed_events: failed,
        events_today: counts.today,
        events_this_week: counts.week,
        events_this_month: counts.month,
        processing_rate: per_cent(processed, total),
        error_rate: per_cent(failed, total),
        top_event_types: counts
            .by_type
            .iter()
            .take(TOP)
            .map(|(event_type, count)| TypeCount {
                event_type: event_type.clone(),
                count: *count,
            })
            .collect(),
        events_by_type: counts.by_type.into_iter().collect(),
        events_by_source: counts.by_source.into_iter().collect(),
        events_by_category: counts.by_category.into_iter().collect(),
        events_by_day: counts
            .daily
            .into_iter()
            .map(|day| DailyCount {
                date: iso(day.date),
                event_type: day.event_type,
                count: day.count,
            })
            .collect(),
        unique_users_by_day: by_day.map(|days| {
            let day = |(date, users)| DailyUsers {
                date: iso(date),
                users,
            };
            days.into_iter().map(day).collect()
        }),
        top_users: top.map(|top| {
            let user = |(user_id, count)| UserCount { user_id, count };
            top.into_iter().map(user).collect()
        }),
        users_counted_until,
        average_processing_time: mean(seconds * 1000.0, stored),
        period: Period {
            start_time: scope.start,
            end_time: scope.end,
        },
        user_id: scope.user_id.clone(),
        calculated_at: now,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 52 bits"
)]
fn per_cent(part: i64, whole: i64) -> f64 {
    if whole > 0 {
        part as f64 / whole as f64 * 100.0
    } else {
        0.0
    }
}

/// `None` of nothing.
#[expect(
    clippy::cast_precision_loss,
    reason = "a mean needs no more than 52 bits"
)]
fn mean(sum: f64, of: i64) -> Option<f64> {
    (of > 0).then(|| sum / of as f64)
}

fn iso(date: Date) -> String {
    format!(
        "{:04}-{:02}-{:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}
