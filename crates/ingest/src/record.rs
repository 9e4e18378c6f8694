//! From accepted events to records of the log.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use domain::{Event, stream, subject};
use eventlog::{Headers, Outgoing};
use uuid::Uuid;

use crate::accept::Accepted;

/// The record of an event: keyed by its stream, so that one entity stays in order.
#[must_use]
pub fn record(
    accepted: Accepted,
    topic: Arc<str>,
    traceparent: Option<&str>,
    follows: Option<Uuid>,
) -> Outgoing {
    let event = &accepted.event;
    Outgoing {
        topic,
        key: stream::log_key(event).into_bytes(),
        headers: headers(event, traceparent, follows),
        payload: accepted.canonical.into(),
    }
}

fn headers(event: &Event, traceparent: Option<&str>, follows: Option<Uuid>) -> Headers {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let content_type = Bytes::from_static(subject::CONTENT_TYPE.as_bytes());
    let fixed = [
        (subject::HEADER_SUBJECT, subject::subject(event).into()),
        (subject::HEADER_TENANT, bytes(event.tenant_id.as_str())),
        (subject::HEADER_CONTENT_TYPE, content_type),
    ];
    let trace = traceparent.map(|value| (subject::HEADER_TRACEPARENT, bytes(value)));
    let follows = follows.map(|id| (subject::HEADER_FOLLOWS, id.to_string().into()));
    fixed.into_iter().chain(trace).chain(follows).collect()
}

/// For each event of a request the one it goes on from: those that expect one version of one stream,
/// or each the version after the one before, are one append, stored whole or not at all.
#[must_use]
pub fn follows(accepted: &[Accepted]) -> Vec<Option<Uuid>> {
    let mut firsts: HashMap<String, (Uuid, i64, i64)> = HashMap::new();
    let mut follows = |Accepted { event, .. }: &Accepted| {
        let expected = event.expected_version?;
        let first = (event.event_id, expected, 0);
        let (id, version, count) = match firsts.entry(stream::explicit_id(event)?) {
            Entry::Vacant(entry) => {
                entry.insert(first);
                return None;
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        *count += 1;
        (expected == *version || expected == version.saturating_add(*count)).then_some(*id)
    };
    accepted.iter().map(&mut follows).collect()
}
