//! Record → dead letter.

use domain::TenantId;
use domain::redriven::{RecordOrigin, header_text};
use eventlog::{Outgoing, Record};
use store::write::DeadLetter;

/// Keeps a record that cannot be stored as an event.
pub(super) fn dead_letter(
    record: &Record,
    origin: RecordOrigin,
    tenant_id: TenantId,
    reason: &str,
    detail: &str,
) -> DeadLetter {
    DeadLetter {
        tenant_id,
        topic: record.topic.to_string(),
        partition: origin.partition,
        offset: origin.offset,
        key: record.key.clone(),
        headers: headers(record),
        payload: record.payload.clone(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        event_id: None,
        timestamp_ms: origin.timestamp_ms,
        from_postgres: origin.from_postgres,
        was: origin.dead_letter,
    }
}

/// Keeps an announcement that cannot be sent: it has no place in a log.
pub(super) fn unannounced(record: &Outgoing, tenant_id: TenantId, detail: &str) -> DeadLetter {
    DeadLetter {
        key: Some(record.key.clone()),
        payload: Some(record.payload.to_vec()),
        ..placeless(
            &record.topic,
            (-1, -1),
            tenant_id,
            "announcement_failed",
            format!("the announcement of a stored event: {detail}"),
        )
    }
}

/// Says what the log no longer has: there are no bytes to keep.
pub(super) fn log_gap(topic: &str, partition: i32, from: i64, detail: String) -> DeadLetter {
    let tenant = TenantId::default();
    placeless(topic, (partition, from), tenant, "log_gap", detail)
}

/// One that is no record, and so cannot be redriven.
fn placeless(
    topic: &str,
    (partition, offset): (i32, i64),
    tenant_id: TenantId,
    reason: &str,
    detail: String,
) -> DeadLetter {
    DeadLetter {
        tenant_id,
        topic: topic.to_owned(),
        partition,
        offset,
        key: None,
        headers: vec![],
        payload: None,
        reason: reason.to_owned(),
        detail,
        event_id: None,
        timestamp_ms: None,
        from_postgres: false,
        was: None,
    }
}

/// The headers as texts, in their order.
fn headers(record: &Record) -> Vec<(String, String)> {
    let headers = record.headers.iter();
    headers
        .map(|(name, value)| (name.replace('\0', "\u{fffd}"), header_text(value)))
        .collect()
}
