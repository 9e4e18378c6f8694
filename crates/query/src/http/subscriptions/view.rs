//! A subscription as it is answered.

use domain::retry::RetryPolicy;
use domain::selector::Filter;
use domain::{EventCategory, EventSource, timestamp};
use serde::Serialize;
use store::subscription_list::Failure;
use store::subscriptions::Subscription;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A subscription; its secret is shown when it is made, and never again.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionView<'a> {
    /// Its number.
    pub subscription_id: Uuid,
    /// Unique.
    pub subscriber_name: &'a str,
    /// In its owner's words.
    pub subscriber_type: &'a str,
    /// Patterns of types; none means all, here and below.
    pub event_types: Vec<&'a str>,
    /// Sources.
    #[schema(value_type = Vec<String>)]
    pub event_sources: &'a [EventSource],
    /// Categories.
    #[schema(value_type = Vec<String>)]
    pub event_categories: &'a [EventCategory],
    /// Ids of users.
    pub users: &'a [String],
    /// A condition on what the event carries.
    #[schema(value_type = Option<Object>, required = true)]
    pub filter: Option<&'a Filter>,
    /// Where events are sent to.
    pub callback_url: &'a str,
    /// How they are written: `json` or `cloudevents`.
    pub format: &'static str,
    /// Whether they are.
    pub enabled: bool,
    /// Why not: `request`, `gone` (the endpoint answered 410) or `failing` (for days).
    #[schema(required = true)]
    pub disabled_reason: Option<&'a str>,
    /// In which order: `none`, or `stream`.
    pub ordering: &'static str,
    /// Since when no delivery succeeded.
    #[serde(serialize_with = "moment")]
    #[schema(required = true)]
    pub failing_since: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(serialize_with = "timestamp::serialize")]
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    #[serde(serialize_with = "timestamp::serialize")]
    pub updated_at: OffsetDateTime,
    /// When a delivery that failed is tried again; not in the answer to its making.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub retry_policy: Option<&'a RetryPolicy>,
    /// In the list: the last attempt that failed, if one of the last hundred did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure<'a>>,
    /// The secret that was made, this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
}

impl<'a> SubscriptionView<'a> {
    pub(super) fn new(subscription: &'a Subscription) -> Self {
        let settings = &subscription.settings;
        let selector = &settings.selector;
        Self {
            subscription_id: subscription.subscription_id,
            subscriber_name: &settings.subscriber_name,
            subscriber_type: &settings.subscriber_type,
            event_types: selector
                .event_types
                .iter()
                .map(|one| one.as_str())
                .collect(),
            event_sources: &selector.event_sources,
            event_categories: &selector.event_categories,
            users: &selector.users,
            filter: selector.filter.as_ref(),
            callback_url: &settings.callback_url,
            format: settings.format.as_str(),
            enabled: settings.enabled,
            ordering: settings.ordering.as_str(),
            disabled_reason: subscription.disabled_reason.as_deref(),
            failing_since: subscription.failing_since,
            created_at: subscription.created_at,
            updated_at: subscription.updated_at,
            retry_policy: Some(&settings.retry_policy),
            last_failure: None,
            webhook_secret: None,
        }
    }

    pub(super) fn failed(self, failure: Option<&'a Failure>) -> Self {
        let last_failure = failure.map(|failure| LastFailure {
            at: failure.at,
            status: failure.status,
            error: failure.error.as_deref(),
        });
        Self {
            last_failure,
            ..self
        }
    }
}

/// An attempt that failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct LastFailure<'a> {
    /// When it ended.
    #[serde(serialize_with = "timestamp::serialize")]
    pub at: OffsetDateTime,
    /// The endpoint's status; null without an answer.
    #[schema(required = true)]
    pub status: Option<i32>,
    /// Why it failed.
    #[schema(required = true)]
    pub error: Option<&'a str>,
}

/// A time, or null.
pub(super) fn moment<S: serde::Serializer>(
    at: &Option<OffsetDateTime>,
    to: S,
) -> Result<S::Ok, S::Error> {
    at.map(timestamp::format).serialize(to)
}
