//! What a processor of the API does with events (S4-77): its type, and the settings in its `config`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::field::{Code, FieldError};
use crate::json::whole;
use crate::names::names;
use crate::retry::RetryPolicy;

names! {
    /// What is done with an event.
    pub enum ProcessorType {
        /// It is sent to a topic of Kafka, as canonical JSON.
        Kafka = "kafka",
        /// A handler that is part of the processor's program is called.
        Handler = "handler",
        /// It is posted to an address, as canonical JSON.
        Webhook = "webhook",
        /// A line is written to the processor's log.
        Log = "log",
    }
}

/// Longest time limit of one attempt, in seconds.
pub const MAX_TIMEOUT_SECONDS: u64 = 3_600;
/// Most attempts at a time in one process.
pub const MAX_CONCURRENCY: u64 = 256;

/// Longest address, in characters.
pub const MAX_URL: usize = 2_048;

/// The settings of a processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What it does.
    pub action: Action,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Attempts at a time in one process.
    pub concurrency: usize,
    /// When it is tried again.
    pub retry: RetryPolicy,
}

/// What a processor does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Sends the event to that topic, named without the deployment's prefix.
    Kafka(String),
    /// Calls the handler of that name.
    Handler(String),
    /// Posts the event to that address.
    Webhook(String),
    /// Writes a line.
    Log,
}

impl Settings {
    /// Reads `config`. What is wrong is appended to `errors`, with its path from `config` on; what
    /// absent fields mean is documented in `docs/extending.md`.
    pub fn read(
        kind: ProcessorType,
        config: &Map<String, Value>,
        errors: &mut Vec<FieldError>,
    ) -> Self {
        let mut wrong = vec![];
        let own = match kind {
            ProcessorType::Kafka => Some("topic"),
            ProcessorType::Handler => Some("handler"),
            ProcessorType::Webhook => Some("url"),
            ProcessorType::Log => None,
        };
        for name in config.keys() {
            let known = ["timeout_seconds", "concurrency", "retry_policy"];
            if !known.contains(&name.as_str()) && Some(name.as_str()) != own {
                let message = format!("is not known of a processor of type {}", kind.as_str());
                wrong.push(FieldError::new(name, Code::IllegalValue, message));
            }
        }
        let mut text = |name: &str, longest: usize| match config
            .get(name)
            .map(|value| value.as_str().map(str::trim))
        {
            Some(Some(text)) if (1..=longest).contains(&text.chars().count()) => text.to_owned(),
            found => {
                let code = match found {
                    None => Code::Missing,
                    Some(None) => Code::WrongType,
                    Some(Some(_)) => Code::OutOfRange,
                };
                let message = format!("must be a text of 1 to {longest} characters");
                wrong.push(FieldError::new(name, code, message));
                String::new()
            }
        };
        let action = match kind {
            ProcessorType::Kafka => Action::Kafka(text("topic", 255)),
            ProcessorType::Handler => Action::Handler(text("handler", 255)),
            ProcessorType::Webhook => Action::Webhook(text("url", MAX_URL)),
            ProcessorType::Log => Action::Log,
        };
        if let Action::Kafka(topic) = &action
            && let Some(message) = topic_problem(topic)
        {
            wrong.push(FieldError::new("topic", Code::IllegalValue, message));
        }
        let timeout = number(
            config,
            "timeout_seconds",
            MAX_TIMEOUT_SECONDS,
            30,
            &mut wrong,
        );
        let concurrency = number(config, "concurrency", MAX_CONCURRENCY, 64, &mut wrong);
        let retry = RetryPolicy::read(config, "retry_policy", &mut wrong);
        errors.extend(wrong.into_iter().map(|error| error.under("config")));
        Self {
            action,
            timeout: Duration::from_secs(timeout),
            concurrency: usize::try_from(concurrency).unwrap_or(1),
            retry,
        }
    }
}

/// Why Kafka has no topic of that name.
fn topic_problem(topic: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_name = topic.is_empty() || (topic.chars().all(legal) && topic.len() <= 249);
    (!is_name || [".", ".."].contains(&topic)).then_some(
        "must be the name of a topic: up to 249 of A-Z, a-z, 0-9, point, dash and underscore",
    )
}

fn number(
    config: &Map<String, Value>,
    name: &str,
    most: u64,
    default: u64,
    errors: &mut Vec<FieldError>,
) -> u64 {
    match config.get(name) {
        None | Some(Value::Null) => default,
        Some(value) => whole(value)
            .filter(|n| (1..=most).contains(n))
            .unwrap_or_else(|| {
                let message = format!("must be an integer of 1 to {most}");
                errors.push(FieldError::new(name, Code::OutOfRange, message));
                default
            }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: ProcessorType, config: Value) -> Result<Settings, Vec<String>> {
        let mut errors = vec![];
        let settings = Settings::read(kind, config.as_object().unwrap(), &mut errors);
        if errors.is_empty() {
            Ok(settings)
        } else {
            Err(errors.into_iter().map(|error| error.path).collect())
        }
    }

    #[test]
    fn absent_settings_have_defaults() {
        let settings = read(ProcessorType::Log, json!({})).unwrap();
        assert_eq!(settings.action, Action::Log);
        assert_eq!((settings.timeout.as_secs(), settings.concurrency), (30, 64));
        assert_eq!(settings.retry, RetryPolicy::default());
        let settings = read(
            ProcessorType::Kafka,
            json!({"topic": "a.b", "timeout_seconds": 1, "concurrency": 2,
                "retry_policy": {"max_retries": 0}}),
        )
        .unwrap();
        assert_eq!(settings.action, Action::Kafka("a.b".to_owned()));
        assert_eq!((settings.timeout.as_secs(), settings.concurrency), (1, 2));
        assert_eq!(settings.retry.max_retries, 0);
    }

    #[test]
    fn each_wrong_setting_is_named() {
        use ProcessorType::{Handler, Kafka, Log, Webhook};
        for (kind, config, path) in [
            (Kafka, json!({}), "config.topic"),
            (Kafka, json!({"topic": 7}), "config.topic"),
            (Kafka, json!({"topic": "a b"}), "config.topic"),
            (Kafka, json!({"topic": ".."}), "config.topic"),
            (Handler, json!({"handler": ""}), "config.handler"),
            (Webhook, json!({"topic": "t", "url": "u"}), "config.topic"),
            (Webhook, json!({"url": null}), "config.url"),
            (
                Handler,
                json!({"handler": "h", "topic": "t"}),
                "config.topic",
            ),
            (Log, json!({"timeout_seconds": 0}), "config.timeout_seconds"),
            (
                Log,
                json!({"timeout_seconds": 3601}),
                "config.timeout_seconds",
            ),
            (Log, json!({"concurrency": "8"}), "config.concurrency"),
            (
                Log,
                json!({"retry_policy": {"max_retries": 99}}),
                "config.retry_policy.max_retries",
            ),
        ] {
            assert_eq!(
                read(kind, config.clone()),
                Err(vec![path.to_owned()]),
                "{config}"
            );
        }
    }
}
