//! What is said of a subscription, in the body of a request.

use domain::cloudevent::Format;
use domain::field::Code;
use domain::ordering::Ordering;
use domain::retry::RetryPolicy;
use domain::{FieldError, Selector};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::subscriptions::{Settings, Subscription};
use utoipa::ToSchema;
use webhook::Secret;

use crate::http::members::{enabled, unknown};

/// Fields beside those of a selector.
const FIELDS: [&str; 8] = [
    "subscriber_name",
    "subscriber_type",
    "callback_url",
    "webhook_secret",
    "enabled",
    "retry_policy",
    "format",
    "ordering",
];
/// What a subscriber is called unless it says.
const DEFAULT_TYPE: &str = "webhook";

/// A subscription to be made; of a change, the fields to be changed, null for the default.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Asked reads it, naming every wrong field"
)]
pub struct SubscriptionRequest {
    /// Unique; 1 to 255 characters.
    #[schema(example = "billing")]
    subscriber_name: String,
    /// In your words; 1 to 100 characters.
    #[schema(default = "webhook")]
    subscriber_type: Option<String>,
    /// Patterns of types (`order.*`); none means all, here and below.
    event_types: Option<Vec<String>>,
    event_sources: Option<Vec<String>>,
    event_categories: Option<Vec<String>>,
    /// Ids of users.
    users: Option<Vec<String>>,
    /// A condition on what the event carries: `{"field": "data.total", "op": "gte", "value": 100}`, or
    /// `{"and": […]}`, `{"or": […]}`, `{"not": {…}}` of such.
    #[schema(value_type = Option<Object>, example = json!({"field": "data.total", "op": "gte", "value": 100}))]
    filter: Option<Value>,
    /// An http or https address that may be reached.
    #[schema(example = "https://example.com/hook")]
    callback_url: String,
    /// `whsec_` and the base64 of 24 to 64 bytes; without it one is made and answered once.
    webhook_secret: Option<String>,
    #[schema(default = true)]
    enabled: Option<bool>,
    /// `{"max_retries": 3, "backoff_seconds": [1, 5, 30]}`.
    #[schema(value_type = Option<Object>)]
    retry_policy: Option<Value>,
    /// How an event is written: `json`, as it is stored, or `cloudevents`, in the structured mode.
    #[schema(default = "json", example = "cloudevents")]
    format: Option<String>,
    /// `stream`: the events of a stream are sent one after the other, none before the one before it was
    /// delivered or given up.
    #[schema(default = "none")]
    ordering: Option<String>,
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) settings: Settings,
    pub(super) secret: Option<Secret>,
}

impl Asked {
    /// Reads a subscription.
    ///
    /// # Errors
    /// Everything that is wrong, but for the address, which [`webhook::Client::endpoint`] checks.
    pub(super) fn read(members: &Map<String, Value>) -> Result<Self, Vec<FieldError>> {
        let mut errors = vec![];
        let known: Vec<&str> = FIELDS.into_iter().chain(Selector::FIELDS).collect();
        unknown(members, &known, &mut errors);
        let selector = Selector::read_from(members, &mut errors);
        let secret = secret(members, &mut errors);
        let enabled = enabled(members, &mut errors);
        let settings = Settings {
            subscriber_name: text(members, "subscriber_name", None, 255, &mut errors),
            subscriber_type: text(
                members,
                "subscriber_type",
                Some(DEFAULT_TYPE),
                100,
                &mut errors,
            ),
            selector,
            callback_url: text(members, "callback_url", None, 2_048, &mut errors),
            retry_policy: RetryPolicy::read(members, "retry_policy", &mut errors),
            format: format(members, &mut errors),
            enabled,
            ordering: ordering(members, &mut errors),
        };
        if errors.is_empty() {
            Ok(Self { settings, secret })
        } else {
            Err(errors)
        }
    }

    /// The subscription with these changes.
    ///
    /// # Errors
    /// Everything that is wrong with it then.
    pub(super) fn changed(
        before: &Subscription,
        changes: &Map<String, Value>,
    ) -> Result<Settings, Vec<FieldError>> {
        let settings = &before.settings;
        let mut all = match serde_json::to_value(&settings.selector) {
            Ok(Value::Object(selector)) => selector,
            _ => Map::new(),
        };
        for (name, value) in [
            ("subscriber_name", json!(settings.subscriber_name)),
            ("subscriber_type", json!(settings.subscriber_type)),
            ("callback_url", json!(settings.callback_url)),
            ("enabled", json!(settings.enabled)),
            ("retry_policy", json!(settings.retry_policy)),
            ("format", json!(settings.format)),
            ("ordering", json!(settings.ordering)),
        ] {
            all.insert(name.to_owned(), value);
        }
        all.extend(changes.clone());
        if all.remove("webhook_secret").is_some() {
            let message = "is changed by POST …/rotate, which lets the old one hold for a while";
            return Err(vec![FieldError::new(
                "webhook_secret",
                Code::IllegalValue,
                message,
            )]);
        }
        Self::read(&all).map(|asked| asked.settings)
    }
}

fn ordering(members: &Map<String, Value>, errors: &mut Vec<FieldError>) -> Ordering {
    let value = match members.get("ordering") {
        None | Some(Value::Null) => return Ordering::None,
        Some(value) => value.as_str().and_then(Ordering::parse),
    };
    value.unwrap_or_else(|| {
        let message = "must be none or stream";
        errors.push(FieldError::new("ordering", Code::IllegalValue, message));
        Ordering::None
    })
}

/// `webhook_secret`, if it is there.
pub(super) fn secret(members: &Map<String, Value>, errors: &mut Vec<FieldError>) -> Option<Secret> {
    let read = match members.get("webhook_secret") {
        None | Some(Value::Null) => return None,
        Some(Value::String(text)) => Secret::parse(text).map_err(|why| (Code::BadFormat, why)),
        Some(_) => Err((Code::WrongType, "must be text".to_owned())),
    };
    let refuse = |(code, why)| errors.push(FieldError::new("webhook_secret", code, why));
    read.map_err(refuse).ok()
}

/// `format`, if it is there.
fn format(members: &Map<String, Value>, errors: &mut Vec<FieldError>) -> Format {
    let known = match members.get("format") {
        None | Some(Value::Null) => return Format::default(),
        Some(value) => value.as_str().and_then(Format::parse),
    };
    known.unwrap_or_else(|| {
        let message = "must be json or cloudevents";
        errors.push(FieldError::new("format", Code::IllegalValue, message));
        Format::default()
    })
}

fn text(
    members: &Map<String, Value>,
    name: &str,
    default: Option<&str>,
    longest: usize,
    errors: &mut Vec<FieldError>,
) -> String {
    let (code, message) = match members.get(name) {
        None | Some(Value::Null) => match default {
            Some(default) => return default.to_owned(),
            None => (Code::Missing, "is required".to_owned()),
        },
        Some(Value::String(text)) => {
            let text = text.trim();
            let plain = !text.chars().any(char::is_control);
            if (1..=longest).contains(&text.chars().count()) && plain {
                return text.to_owned();
            }
            let message = format!("must have 1 to {longest} characters, none of control");
            (Code::OutOfRange, message)
        }
        Some(_) => (Code::WrongType, "must be text".to_owned()),
    };
    errors.push(FieldError::new(name, code, message));
    String::new()
}
