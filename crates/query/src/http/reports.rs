//! How events are named and built: reported, never enforced.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use domain::instrumentation::{problems, typos};
use domain::timestamp;
use serde::Serialize;
use service::Problem;
use store::instrumentation::{self, Material, Member, TypeQuality};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::request::tenant;
use crate::parameters::Parameters;
use crate::state::State;

/// Days of the past, unless it is said; and at most.
const DAYS: u32 = 7;
const MAX_DAYS: u32 = 90;

/// How events are named and built.
#[derive(Debug, Serialize, ToSchema)]
pub struct InstrumentationReport {
    /// Since when.
    #[serde(serialize_with = "timestamp::serialize")]
    pub since: OffsetDateTime,
    /// Names that break a rule, the most frequent types first.
    pub names: Vec<NameFinding>,
    /// Types that are likely to be others, misspelt.
    pub typos: Vec<Typo>,
    /// Members of data that have several types.
    pub mixed_types: Vec<MemberFinding>,
    /// Members that are new in their type of events, or are not sent any more.
    pub changed: Vec<MemberFinding>,
    /// Events that name no user, session, device or aggregate, by type and source.
    pub missing_ids: Vec<MissingIds>,
    /// Clocks and repeats, by source.
    pub sources: Vec<SourceFinding>,
}

/// A name that breaks rules.
#[derive(Debug, Serialize, ToSchema)]
pub struct NameFinding {
    /// The type.
    pub event_type: String,
    /// Its events.
    pub events: i64,
    /// `not_snake_case`, `too_generic`, `one_word`, `not_past_tense`.
    pub problems: Vec<&'static str>,
}

/// A type that is likely to be another.
#[derive(Debug, Serialize, ToSchema)]
pub struct Typo {
    /// The type.
    pub event_type: String,
    /// The one that is meant.
    pub likely: String,
    /// Its events.
    pub events: i64,
}

/// A member of the data of a type.
#[derive(Debug, Serialize, ToSchema)]
pub struct MemberFinding {
    /// The type.
    pub event_type: String,
    /// The version of its schema.
    pub schema_version: String,
    /// The member.
    #[schema(example = "order.total")]
    pub path: String,
    /// Its types in JSON, the most frequent first.
    pub json_types: Vec<String>,
    /// When it was seen first.
    #[serde(serialize_with = "timestamp::serialize")]
    pub first_seen: OffsetDateTime,
    /// When it was seen last.
    #[serde(serialize_with = "timestamp::serialize")]
    pub last_seen: OffsetDateTime,
}

/// Events without any id.
#[derive(Debug, Serialize, ToSchema)]
pub struct MissingIds {
    /// The type.
    pub event_type: String,
    /// The source.
    pub event_source: String,
    /// Its events.
    pub events: i64,
    /// Those without an id.
    pub without_ids: i64,
}

/// What is seen of a source.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceFinding {
    /// The source.
    pub event_source: String,
    /// Its events.
    pub events: i64,
    /// Those that came again, and were dropped.
    pub duplicates: i64,
    /// Those that came more than five minutes after their own time.
    pub late: i64,
    /// Those whose own time is more than five seconds after they came.
    pub early: i64,
    /// The furthest that an event's time was from its coming.
    pub worst_seconds: i64,
}

impl From<Member> for MemberFinding {
    fn from(of: Member) -> Self {
        Self {
            event_type: of.event_type,
            schema_version: of.schema_version,
            path: of.path,
            json_types: of.types,
            first_seen: of.first_seen,
            last_seen: of.last_seen,
        }
    }
}

/// How events are named and built, as what came in shows (S0-39 to S0-42, S3-33). Nothing of it is enforced.
/// Shapes are those of a sample.
///
/// # Errors
/// 422 for a wrong parameter, 503 while the database does not answer.
#[utoipa::path(get, path = "/api/v1/reports/instrumentation", tag = "reports",
    params(("days" = Option<u32>, Query, minimum = 1, maximum = 90, description = "of the last days; default 7")),
    responses((status = 200, body = InstrumentationReport), (status = 422, description = "A wrong parameter"),
        (status = 503, description = "Database down")))]
pub async fn instrumentation(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let tenant = tenant(&request);
    let mut parameters = Parameters::from_query(request.query_string())?;
    let days = parameters.integer("days", 1, MAX_DAYS).unwrap_or(DAYS);
    parameters.finish()?;
    let since = service::clock::now() - Duration::days(i64::from(days));
    let material = state
        .read("instrumentation", async |client| {
            instrumentation::material(client, &tenant, since).await
        })
        .await?;
    // Each type is compared with each.
    let report = web::block(move || report(since, material)).await;
    let report = report.map_err(|error| Problem::internal(&error))?;
    state.answer(state.hold(0)?, &report)
}

fn report(since: OffsetDateTime, material: Material) -> InstrumentationReport {
    let Material {
        types,
        mixed,
        changed,
        by_type,
        by_source,
    } = material;
    let counts: BTreeMap<&str, i64> = types
        .iter()
        .map(|(name, events)| (name.as_str(), *events))
        .collect();
    let names = types.iter().filter_map(|(name, events)| {
        let problems: Vec<_> = problems(name).iter().map(|one| one.as_str()).collect();
        (!problems.is_empty()).then(|| NameFinding {
            event_type: name.clone(),
            events: *events,
            problems,
        })
    });
    let typos = typos(&types).into_iter().map(|(name, likely)| Typo {
        event_type: name.to_owned(),
        likely: likely.to_owned(),
        events: counts.get(name).copied().unwrap_or(0),
    });
    let missing = by_type.into_iter().filter_map(|one: TypeQuality| {
        Some(MissingIds {
            event_type: one.event_type?,
            event_source: one.event_source,
            events: one.quality.events,
            without_ids: one.quality.without_ids,
        })
    });
    let sources = by_source.into_iter().map(|one| SourceFinding {
        event_source: one.event_source,
        events: one.quality.events,
        duplicates: one.quality.duplicates,
        late: one.quality.late,
        early: one.quality.early,
        worst_seconds: one.quality.worst_seconds,
    });
    InstrumentationReport {
        since,
        names: names.collect(),
        typos: typos.collect(),
        mixed_types: mixed.into_iter().map(Into::into).collect(),
        changed: changed.into_iter().map(Into::into).collect(),
        missing_ids: missing.collect(),
        sources: sources.collect(),
    }
}
