//! Events by the hour or the day, and of what.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::{EventCategory, EventSource, timestamp};
use serde::Serialize;
use service::Problem;
use store::flow::{self, By, Count, Interval, Question};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::request::tenant;
use super::stats::Period;
use crate::cache::Key;
use crate::parameters::Parameters;
use crate::state::State;

/// Most days, by the hour and by the day: at most 9,000 parts of time.
const MOST_HOURLY: i64 = 31;
const MOST_DAILY: i64 = 366;
/// The period, unless it is said.
const DAYS: i64 = 30;
/// Names that are told apart, unless it is said; and at most.
const NAMES: u32 = 5;
const MOST_NAMES: u32 = 20;

/// Events by the hour or the day, of what counts are kept of: exact, and as fast with a billion events as with none.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventCounts {
    /// `hour` or `day`, UTC.
    #[schema(example = "hour")]
    pub interval: &'static str,
    /// What is told apart: `event_type`, `event_source` or `event_category`.
    #[schema(example = "event_type")]
    pub by: &'static str,
    /// The most frequent ones, most first.
    pub names: Vec<String>,
    /// Of each part of time with events: how many, by name, in the order of time.
    pub counts: Vec<EventCount>,
    /// All of them together.
    pub total: i64,
    /// What was asked for, in whole hours.
    pub period: Period,
}

/// Events of a name in a part of time.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventCount {
    /// Where the part begins.
    #[serde(serialize_with = "timestamp::serialize")]
    pub time: OffsetDateTime,
    /// One of `names`; null is all others.
    #[schema(required = true)]
    pub name: Option<String>,
    /// How many.
    pub count: i64,
}

/// How many events there were by the hour or the day, and of what. At most 31 days by the hour, 366 by the day.
///
/// # Errors
/// 400 for unknown names, 422 for wrong parameters, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/events/counts", tag = "statistics",
    params(("interval" = Option<String>, Query, description = "`day` (default) or `hour`, UTC"),
        ("by" = Option<String>, Query, description = "told apart by `event_type` (default), `event_source` or `event_category`"),
        ("names" = Option<u32>, Query, description = "how many of these; the others are one; default 5"),
        ("start_time" = Option<String>, Query, description = "default 30 days before the end; also started_at"),
        ("end_time" = Option<String>, Query, description = "default now; also ended_at"),
        ("event_type" = Option<String>, Query, description = "only this type"),
        ("event_source" = Option<String>, Query, description = "only this source"),
        ("event_category" = Option<String>, Query, description = "only this category")),
    responses((status = 200, body = EventCounts), (status = 400, description = "An unknown name"),
        (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn counts(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = asked(&request)?;
    let tenant = question.tenant_id.clone();
    let key = Key::new("counts", &tenant, &[&question], state.kept.statistics);
    let load = async || {
        let read = state.read("counts", async |client| flow::read(client, &question).await);
        Ok(answer(&question, read.await?))
    };
    state.answer_kept(key, load).await
}

fn asked(request: &HttpRequest) -> Result<Question, Problem> {
    let mut parameters = Parameters::from_query(request.query_string())?;
    let interval = parameters.choice("interval", Interval::ALL, Interval::as_str);
    let interval = interval.unwrap_or(Interval::Day);
    let by = parameters.choice("by", By::ALL, By::as_str);
    let end = parameters.time(&["end_time", "ended_at"]);
    // In a minute everybody asks the same, and has the same answer.
    let end = end.unwrap_or_else(|| {
        let now = service::clock::now();
        now.replace_second(59)
            .map_or(now, |now| now.replace_nanosecond(0).unwrap_or(now))
    });
    let start = parameters.time(&["start_time", "started_at"]);
    let start = start.unwrap_or_else(|| end.saturating_sub(Duration::days(DAYS)));
    let most = match interval {
        Interval::Hour => MOST_HOURLY,
        Interval::Day => MOST_DAILY,
    };
    if end - start > Duration::days(most) {
        let message = format!("is more than {most} days before the end; ask for fewer days");
        parameters.refuse("start_time", Code::OutOfRange, message);
    }
    let event_type = parameters.event_type();
    let question = Question {
        tenant_id: tenant(request),
        start,
        end,
        interval,
        by: by.unwrap_or(By::EventType),
        names: parameters.integer("names", 1, MOST_NAMES).unwrap_or(NAMES),
        event_type,
        event_source: parameters.choice("event_source", EventSource::ALL, EventSource::as_str),
        event_category: parameters.choice(
            "event_category",
            EventCategory::ALL,
            EventCategory::as_str,
        ),
    };
    parameters.finish()?;
    Ok(question)
}

fn answer(question: &Question, counts: Vec<Count>) -> EventCounts {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for one in &counts {
        if let Some(name) = &one.name {
            *sums.entry(name).or_default() += one.count;
        }
    }
    let mut names: Vec<_> = sums.into_iter().collect();
    names.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    EventCounts {
        interval: question.interval.as_str(),
        by: question.by.as_str(),
        names: names.into_iter().map(|(name, _)| name.to_owned()).collect(),
        total: counts.iter().map(|one| one.count).sum(),
        counts: counts
            .into_iter()
            .map(|Count { time, name, count }| EventCount { time, name, count })
            .collect(),
        period: Period {
            start_time: question.start,
            end_time: Some(question.end),
        },
    }
}
