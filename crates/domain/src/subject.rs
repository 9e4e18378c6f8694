//! Topics and subjects (C05): the topic is where an event travels, the subject is its full dotted
//! name, which travels in a header.

use crate::category::EventCategory;
use crate::event::{Event, EventSource};

/// Topic of the frontend's `user_interaction` events (S0-06).
pub const USER_INTERACTION: &str = "events.frontend.user_interaction";
/// Topic of the frontend's `business_action` events (S0-07).
pub const BUSINESS_ACTION: &str = "events.frontend.business_action";
/// Topic of the frontend's `system_event` events (S0-08).
pub const SYSTEM_EVENT: &str = "events.frontend.system_event";
/// Topic of backend events, ours and those of direct producers (S0-09).
pub const BACKEND: &str = "events.backend.service";
/// Topic of the announcements, `event.stored` first (S4-98).
pub const ANNOUNCEMENTS: &str = "event-stream";
/// Topic of what is told of alerts (S1-41), whose subjects begin with [`crate::anomaly::EVENT_PREFIX`].
pub const ALERTS: &str = "events.alerts";

/// The topics events come in on, without the configured domain topics.
pub const EVENT_TOPICS: [&str; 4] = [USER_INTERACTION, BUSINESS_ACTION, SYSTEM_EVENT, BACKEND];

/// Header with the full dotted subject.
pub const HEADER_SUBJECT: &str = "subject";
/// Header with the tenant.
pub const HEADER_TENANT: &str = "tenant";
/// Header with the payload's media type.
pub const HEADER_CONTENT_TYPE: &str = "content-type";
/// Header with the W3C trace context, passed through.
pub const HEADER_TRACEPARENT: &str = "traceparent";

/// Header with the id of an event of the same stream: this one goes on with its append, and is stored
/// if and only if that one is, whatever version it expects.
pub const HEADER_FOLLOWS: &str = "follows";

/// Header with the service that a replayed event is for.
pub const HEADER_TARGET_SERVICE: &str = "target_service";
/// Header with the id of the replay.
pub const HEADER_REPLAY_ID: &str = "replay-id";

/// Media type of the canonical form.
pub const CONTENT_TYPE: &str = "application/json";
/// Subject of the announcement that an event is stored.
pub const EVENT_STORED: &str = "event.stored";
/// Subjects of the announcements that a replay begins, and that it has ended (S4-102).
pub const REPLAY_STARTED: &str = "event.replay.started";
/// See [`REPLAY_STARTED`].
pub const REPLAY_COMPLETED: &str = "event.replay.completed";
/// Subject of the announcement that a projection is built for the first time (S4-103).
pub const PROJECTION_CREATED: &str = "event.projection.created";
/// Subject of the announcement that a subscription was made.
pub const SUBSCRIPTION_CREATED: &str = "event.subscription.created";
/// Subject of the announcement that a subscription was disabled by what its endpoint does.
pub const SUBSCRIPTION_DISABLED: &str = "event.subscription.disabled";

/// The topic of what is replayed for a service, without the deployment's prefix.
#[must_use]
pub fn replay_topic(service: &str) -> String {
    format!("replay.{service}")
}

/// The topic an event travels on.
#[must_use]
pub fn topic(event: &Event) -> &'static str {
    match (event.event_source, event.event_category) {
        (EventSource::Frontend, EventCategory::UserInteraction) => USER_INTERACTION,
        (EventSource::Frontend, EventCategory::BusinessAction) => BUSINESS_ACTION,
        (EventSource::Frontend, EventCategory::SystemEvent) => SYSTEM_EVENT,
        _ => BACKEND,
    }
}

/// What a topic's name says of the events on it that do not say it themselves. `topic` is the name
/// without the deployment's prefix.
#[must_use]
pub fn defaults(topic: &str) -> (EventSource, EventCategory) {
    match topic {
        USER_INTERACTION => (EventSource::Frontend, EventCategory::UserInteraction),
        BUSINESS_ACTION => (EventSource::Frontend, EventCategory::BusinessAction),
        SYSTEM_EVENT => (EventSource::Frontend, EventCategory::SystemEvent),
        _ => (EventSource::Backend, EventCategory::UserAction),
    }
}

/// The full subject: the topic and the event type, `events.backend.service.user.logout`.
#[must_use]
pub fn subject(event: &Event) -> String {
    let mut subject = String::with_capacity(40 + event.event_type.len());
    subject.push_str(topic(event));
    subject.push('.');
    // A subject is read by other systems' pattern matchers: only plain characters (S4-108).
    subject.extend(event.event_type.chars().map(|c| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => c,
        _ => '_',
    }));
    subject
}
