//! From accepted events to records of the log.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use domain::{Event, TenantId, stream, subject};
use eventlog::{Headers, Outgoing};

use crate::accept::Accepted;

/// Most event types, and most uses of one, whose headers a thread remembers.
const REMEMBERED: usize = 512;

/// The record of an event: keyed by its stream, so that one entity stays in order.
#[must_use]
pub fn record(accepted: &mut Accepted, topic: Arc<str>, traceparent: Option<&str>) -> Outgoing {
    let event = &accepted.event;
    Outgoing {
        topic,
        key: stream::log_key(event).into_bytes(),
        headers: match traceparent {
            Some(traceparent) => headers(event, Some(traceparent)),
            None => remembered(event),
        },
        payload: std::mem::take(&mut accepted.canonical).into(),
    }
}

/// A sender has few event types, and headers are cheap to share but dear to build. Looking up
/// allocates nothing.
fn remembered(event: &Event) -> Headers {
    type Known = Vec<(TenantId, &'static str, Headers)>;
    thread_local! {
        static SEEN: RefCell<HashMap<String, Known>> = RefCell::default();
    }
    let topic = subject::topic(event);
    SEEN.with_borrow_mut(|seen| {
        let known = seen.get(event.event_type.as_str()).and_then(|known| {
            known
                .iter()
                .find(|(tenant, on, _)| *tenant == event.tenant_id && *on == topic)
        });
        if let Some((_, _, headers)) = known {
            return headers.clone();
        }
        let headers = headers(event, None);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        let known = seen.entry(event.event_type.clone()).or_default();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.push((event.tenant_id.clone(), topic, headers.clone()));
        headers
    })
}

fn headers(event: &Event, traceparent: Option<&str>) -> Headers {
    let fixed = [
        (
            subject::HEADER_SUBJECT,
            Bytes::from(subject::subject(event)),
        ),
        (
            subject::HEADER_TENANT,
            Bytes::copy_from_slice(event.tenant_id.as_str().as_bytes()),
        ),
        (
            subject::HEADER_CONTENT_TYPE,
            Bytes::from_static(subject::CONTENT_TYPE.as_bytes()),
        ),
    ];
    let trace = traceparent.map(|value| {
        (
            subject::HEADER_TRACEPARENT,
            Bytes::copy_from_slice(value.as_bytes()),
        )
    });
    fixed.into_iter().chain(trace).collect()
}
