//! What is announced of a processor's work: `event.processed.success` and `.failed` (S4-99, S4-100).

use domain::{Event, timestamp};
use serde::Serialize;
use store::outbox::Message;
use store::processing::{End, Run};
use time::OffsetDateTime;
use uuid::Uuid;

/// Subject after a success, or where there was nothing to do.
const SUCCESS: &str = "event.processed.success";
/// Subject after a failure, whether or not it is tried again.
const FAILED: &str = "event.processed.failed";

#[derive(Serialize)]
struct Succeeded<'a> {
    event_id: Uuid,
    processor_name: &'a str,
    /// `success` or `skipped`.
    status: &'static str,
    #[serde(serialize_with = "timestamp::serialize")]
    processed_at: OffsetDateTime,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
}

#[derive(Serialize)]
struct Failed<'a> {
    event_id: Uuid,
    processor_name: &'a str,
    error_message: &'a str,
    /// `error`, `retry`, `failed`, `timeout` or `panic`.
    error_type: &'static str,
    /// Attempts before this one.
    retry_count: i32,
    #[serde(serialize_with = "timestamp::serialize")]
    failed_at: OffsetDateTime,
    will_retry: bool,
}

/// The announcement of an attempt that ended at that time.
pub(super) fn of(
    run: &Run,
    event: &Event,
    error_type: &'static str,
    at: OffsetDateTime,
) -> Message {
    let (subject, payload) = match run.end {
        End::Success | End::Skipped => {
            let payload = serde_json::to_vec(&Succeeded {
                event_id: event.event_id,
                processor_name: &run.processor,
                status: run.end.status(),
                processed_at: at,
                duration_ms: u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX),
                result: run.message.as_deref(),
            });
            (SUCCESS, payload)
        }
        End::Retry(_) | End::Failed(_) => {
            let payload = serde_json::to_vec(&Failed {
                event_id: event.event_id,
                processor_name: &run.processor,
                error_message: run.message.as_deref().unwrap_or_default(),
                error_type,
                retry_count: run.claimed.attempt - 1,
                failed_at: at,
                will_retry: matches!(run.end, End::Retry(_)),
            });
            (FAILED, payload)
        }
    };
    Message {
        tenant_id: event.tenant_id.to_string(),
        subject: subject.to_owned(),
        key: domain::stream::log_key(event).into_bytes(),
        // Writing to memory cannot fail.
        payload: payload.unwrap_or_default(),
    }
}
