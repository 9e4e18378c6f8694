//! What an import would send, found out as the gateway would.

use std::collections::BTreeMap;
use std::process::ExitCode;

use domain::envelope::Origin;
use domain::{Context, DecodeError, EventCategory, EventSource, Limits, TenantId, timestamp};
use time::OffsetDateTime;

use super::records::Records;
use crate::output;
use crate::sending::event::Events as _;
use crate::sending::report::Report;

/// Types that are shown, the most frequent first.
const SHOWN: usize = 20;

/// Reads everything and prints what it is.
///
/// # Errors
/// A file cannot be read.
pub(super) fn run(mut records: Records, report: &Report) -> anyhow::Result<ExitCode> {
    let tenant = TenantId::default();
    let now = service::clock::now();
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    let mut times: Option<(OffsetDateTime, OffsetDateTime)> = None;
    while let Some((event, at)) = records.next()? {
        report.passed(at);
        let cx = Context {
            origin: Origin::Http,
            tenant: &tenant,
            received_at: now,
            now,
            fresh_id: service::clock::fresh_id(),
            default_source: EventSource::Backend,
            default_category: EventCategory::UserAction,
            content_type: None,
            limits: Limits::default(),
        };
        match domain::decode(event.json.as_bytes(), &cx) {
            Ok(read) => {
                *types.entry(read.event_type).or_default() += 1;
                let (first, last) = times.unwrap_or((read.timestamp, read.timestamp));
                times = Some((first.min(read.timestamp), last.max(read.timestamp)));
            }
            Err(error) => report.refused(&event, &why(&error)),
        }
    }
    let events: u64 = types.values().sum();
    report.clear();
    output::line(format_args!(
        "{events} events would be sent{}",
        report.problems()
    ));
    if let Some((first, last)) = times {
        let (first, last) = (timestamp::format(first), timestamp::format(last));
        output::line(format_args!("  from {first} to {last}"));
    }
    let mut types: Vec<(String, u64)> = types.into_iter().collect();
    types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (event_type, count) in types.iter().take(SHOWN) {
        output::line(format_args!("  {count:>10}  {event_type}"));
    }
    if let Some(more) = types.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        output::line(format_args!("  and {more} more types"));
    }
    Ok(report.status())
}

/// The first wrong field.
fn why(error: &DecodeError) -> String {
    match error {
        DecodeError::Fields(errors) => match errors.first() {
            Some(first) => format!("{}: {}", first.path, first.message),
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}
