//! From accepted events to records of the log.

use std::sync::Arc;

use bytes::Bytes;
use domain::{Event, stream, subject};
use eventlog::{Headers, Outgoing};

use crate::accept::Accepted;

/// The record of an event: keyed by its stream, so that one entity stays in order.
#[must_use]
pub fn record(accepted: Accepted, topic: Arc<str>, traceparent: Option<&str>) -> Outgoing {
    let event = &accepted.event;
    Outgoing {
        topic,
        key: stream::log_key(event).into_bytes(),
        headers: headers(event, traceparent),
        payload: accepted.canonical.into(),
    }
}

fn headers(event: &Event, traceparent: Option<&str>) -> Headers {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let content_type = Bytes::from_static(subject::CONTENT_TYPE.as_bytes());
    let fixed = [
        (subject::HEADER_SUBJECT, subject::subject(event).into()),
        (subject::HEADER_TENANT, bytes(event.tenant_id.as_str())),
        (subject::HEADER_CONTENT_TYPE, content_type),
    ];
    let trace = traceparent.map(|value| (subject::HEADER_TRACEPARENT, bytes(value)));
    fixed.into_iter().chain(trace).collect()
}
