//! A hand-made event through the bridge, stage by stage (S2-65), for the route and the command line.

use std::sync::Arc;

use domain::subject;
use eventlog::Record;
use live::Outcome;
use serde_json::{Value, json};

use super::breaker::BreakerState;
use super::evaluate::{Evaluator, RejectReason, Rejected};
use super::filter::Step;
use super::publish::Publisher;

/// The verdicts of the stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Each stage's verdict, as a JSON object.
    pub stages: Value,
    /// Whether the event was published, or in a dry run would be.
    pub passed: bool,
}

/// Takes hand-made events through the stages of a bridge with these rules.
pub struct DryRun {
    evaluator: Arc<Evaluator>,
    topic: Arc<str>,
}

impl DryRun {
    /// Events are taken as if they came on the first of these topics.
    #[must_use]
    pub fn new(evaluator: Arc<Evaluator>, prefix: &str, topics: &[String]) -> Self {
        let topic = topics.first().map_or(subject::BACKEND, String::as_str);
        Self {
            evaluator,
            topic: format!("{prefix}{topic}").into(),
        }
    }

    /// Takes one event, in any envelope, through the stages; publishes it only if asked to.
    pub async fn run(&self, publisher: Option<&Publisher>, body: &[u8], publish: bool) -> Verdict {
        let now = service::clock::now();
        let record = Record {
            topic: Arc::clone(&self.topic),
            // No position of the log, so that its id is that of no record.
            partition: -1,
            offset: -1,
            timestamp_ms: i64::try_from(now.unix_timestamp_nanos() / 1_000_000).ok(),
            key: None,
            headers: vec![],
            payload: Some(body.to_vec()),
        };
        let state = publisher.map_or(BreakerState::Closed, |p| p.breaker.state());
        let mut stages = json!({
            "consume": {"ok": true, "topic": &*self.topic, "bytes": body.len()},
            "breaker": {"state": state.as_str(), "allows": state == BreakerState::Closed},
        });
        let ready = match self.evaluator.record(&record, now, None) {
            Ok(ready) => ready,
            Err(rejected) => {
                stop(&mut stages, &rejected);
                return Verdict {
                    stages,
                    passed: false,
                };
            }
        };
        let (channel, message) = (&ready.publication.channel, &ready.publication.message);
        stages["decode"] = json!({
            "ok": true, "event_id": ready.event.event_id, "event_type": ready.event.event_type,
        });
        stages["filter"] = json!({"ok": true, "reason": null, "steps": steps(None)});
        stages["transform"] = json!({
            "ok": true, "tenant": channel.tenant.as_str(), "user_id": &*channel.user_id,
            "event": message.event, "bytes": message.data.len(),
            "data": serde_json::from_slice::<Value>(&message.data).unwrap_or_default(),
        });
        let (result, outcome) = match publisher.filter(|_| publish) {
            None => ("would_publish", json!({"skipped": "dry run"})),
            Some(publisher) => match publisher.publish_one(*ready).await {
                None => ("dropped", json!({"skipped": "the breaker is not closed"})),
                Some(Err(error)) => ("failed", json!({"error": error.to_string()})),
                Some(Ok(Outcome::Published(id))) => {
                    ("published", json!({"stream_id": id.to_string()}))
                }
                Some(Ok(Outcome::Duplicate)) => {
                    ("duplicate", json!({"skipped": "published before"}))
                }
                Some(Ok(Outcome::NoListener)) => (
                    "no_listener",
                    json!({"skipped": "nobody listens to this user"}),
                ),
                Some(Ok(Outcome::Refused(reason))) => ("failed", json!({"error": reason})),
            },
        };
        stages["result"] = result.into();
        stages["publish"] = outcome;
        Verdict {
            passed: matches!(result, "published" | "no_listener" | "would_publish"),
            stages,
        }
    }
}

/// The stages of a rejected event: those before the one that rejected it are fine, those after it
/// were skipped.
fn stop(stages: &mut Value, rejected: &Rejected) {
    let reason = &rejected.reason;
    let (stage, failed_step) = match reason {
        RejectReason::Malformed(..) => ("decode", None),
        RejectReason::Filtered(failed) => ("filter", Some(failed.step)),
        RejectReason::Unroutable(_) => ("transform", None),
    };
    let mut verdict = json!({"ok": true});
    for name in ["decode", "filter", "transform", "publish"] {
        stages[name] = verdict.clone();
        if name == stage {
            stages[name] = json!({"ok": false, "reason": reason.word(), "detail": reason.detail()});
            verdict = json!({"skipped": "the event was rejected before"});
        }
    }
    if stage != "decode" {
        stages["filter"]["steps"] = steps(failed_step);
    }
    stages["result"] = reason.status().as_str().into();
    stages["reason"] = reason.word().into();
}

/// Steps before the failed one are fine, steps after it were skipped.
fn steps(failed: Option<Step>) -> Value {
    let mut verdict = "ok";
    let steps = Step::ALL.into_iter().map(|step| {
        let this = if failed == Some(step) {
            verdict = "skipped";
            "failed"
        } else {
            verdict
        };
        json!({"step": step, "verdict": this})
    });
    steps.collect()
}
