//! Record → dead letter.

use base64::Engine as _;
use domain::TenantId;
use eventlog::Record;
use store::write::DeadLetter;

/// Keeps a record that cannot be stored as an event.
pub(super) fn dead_letter(
    record: &Record,
    tenant_id: TenantId,
    reason: &str,
    detail: &str,
) -> DeadLetter {
    DeadLetter {
        tenant_id,
        topic: record.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        key: record.key.clone(),
        headers: headers(record),
        payload: record.payload.clone(),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        event_id: None,
    }
}

/// The headers as a JSON object of texts. A value that is no text, or one that `jsonb` cannot hold,
/// stands as `base64:…`.
fn headers(record: &Record) -> String {
    let headers: serde_json::Map<String, serde_json::Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            let text = match std::str::from_utf8(value) {
                Ok(text) if !text.contains('\0') => text.to_owned(),
                _ => format!(
                    "base64:{}",
                    base64::engine::general_purpose::STANDARD.encode(value)
                ),
            };
            (name.replace('\0', "\u{fffd}"), text.into())
        })
        .collect();
    serde_json::Value::Object(headers).to_string()
}
