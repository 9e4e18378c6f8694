//! A hand-made event through the bridge, stage by stage (S2-65): from HTTP and from the command
//! line. A dry run unless publishing is asked for.

use std::sync::Arc;

use domain::subject;
use eventlog::Record;
use live::Outcome;
use serde_json::{Value, json};

use super::breaker::BreakerState;
use super::evaluate::{Evaluator, RejectReason, Rejected};
use super::filter::Step;
use super::publish::Publisher;

/// The verdicts.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Each stage's word.
    pub stages: Value,
    /// Whether the event was published, or in a dry run would be.
    pub passed: bool,
}

/// Feeds one event in any envelope through the stages.
pub async fn run(
    evaluator: &Evaluator,
    publisher: Option<&Publisher>,
    topic: &str,
    body: &[u8],
    publish: bool,
) -> Verdict {
    let now = service::clock::now();
    let record = Record {
        topic: Arc::from(topic),
        // No place of the log, so that its id is nobody else's.
        partition: -1,
        offset: -1,
        timestamp_ms: i64::try_from(now.unix_timestamp_nanos() / 1_000_000).ok(),
        key: None,
        headers: vec![],
        payload: Some(body.to_vec()),
    };
    let state = publisher.map_or(BreakerState::Closed, |p| p.gate.state().0);
    let breaker = json!({"state": state.as_str(), "allows": state == BreakerState::Closed});
    let consume = json!({"ok": true, "topic": topic, "bytes": body.len()});
    let ready = match evaluator.record(&record, now, None) {
        Ok(ready) => ready,
        Err(ended) => {
            let (decode, filter, transform) = stopped(&ended);
            let stages = json!({
                "result": ended.why.status().as_str(), "reason": ended.why.reason(),
                "consume": consume, "decode": decode, "filter": filter, "breaker": breaker,
                "transform": transform, "publish": {"skipped": "the event ended before"},
            });
            return Verdict {
                stages,
                passed: false,
            };
        }
    };
    let message = &ready.publication.message;
    let channel = &ready.publication.channel;
    let mut stages = json!({
        "consume": consume,
        "decode": {"ok": true, "event_id": ready.event.event_id, "event_type": ready.event.event_type},
        "filter": {"ok": true, "reason": null, "steps": steps(None)},
        "breaker": breaker,
        "transform": {
            "ok": true, "tenant": channel.tenant.as_str(), "user_id": &*channel.user_id,
            "event": message.event, "bytes": message.data.len(),
            "data": serde_json::from_slice::<Value>(&message.data).unwrap_or_default(),
        },
    });
    let (result, outcome) = match publisher {
        Some(publisher) if publish => match publisher.publish_one(*ready).await {
            None => ("dropped", json!({"skipped": "the breaker is not closed"})),
            Some(Err(error)) => ("failed", json!({"error": error.to_string()})),
            Some(Ok(Outcome::Published(id))) => ("published", json!({"stream_id": id.to_string()})),
            Some(Ok(Outcome::Duplicate)) => ("duplicate", json!({"skipped": "published before"})),
            Some(Ok(Outcome::Refused(reason))) => ("failed", json!({"error": reason})),
        },
        _ => ("would_publish", json!({"skipped": "dry run"})),
    };
    stages["result"] = result.into();
    stages["publish"] = outcome;
    Verdict {
        passed: matches!(result, "published" | "would_publish"),
        stages,
    }
}

/// The topic a hand-made event is said to come from.
#[must_use]
pub fn topic(topics: &[String]) -> &str {
    topics.first().map_or(subject::BACKEND, String::as_str)
}

fn stopped(ended: &Rejected) -> (Value, Value, Value) {
    let no = json!({"ok": false, "reason": ended.why.reason(), "detail": ended.why.detail()});
    let skipped = json!({"skipped": "the event ended before"});
    match &ended.why {
        RejectReason::Malformed(..) => (no, skipped.clone(), skipped),
        RejectReason::Filtered(rejection) => {
            let mut filter = no;
            filter["steps"] = steps(Some(rejection.step));
            (json!({"ok": true}), filter, skipped)
        }
        RejectReason::Unroutable(_) => (
            json!({"ok": true}),
            json!({"ok": true, "reason": null, "steps": steps(None)}),
            no,
        ),
    }
}

/// Those before the failed one are fine, those after it were not looked at.
fn steps(failed: Option<Step>) -> Value {
    let mut verdict = "ok";
    Step::ALL
        .into_iter()
        .map(|step| {
            let this = match failed {
                Some(failed) if failed == step => {
                    verdict = "skipped";
                    "failed"
                }
                _ => verdict,
            };
            json!({"step": step, "verdict": this})
        })
        .collect()
}
