//! The filter (S2-15 … S2-23): five steps in order, and the first that fails is the reason.

use config::Env;
use domain::timestamp;
use regex::RegexSet;
use serde::Serialize;
use uuid::Uuid;

use super::allow_list;
use super::event_fields::{EventFields, Field};
use super::profile::{Profile, list};

/// Longest event type that is looked at, in characters.
const MAX_TYPE: usize = 255;

/// The steps, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Every required field is there (S2-15).
    RequiredFields,
    /// The type is a name, and begins with one of the prefixes (S2-16).
    EventType,
    /// The type matches one of the patterns (S2-17).
    AllowList,
    /// The fields that have to be UUIDs are (S2-18).
    Uuids,
    /// The time is one (S2-19).
    Timestamp,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [
        Self::RequiredFields,
        Self::EventType,
        Self::AllowList,
        Self::Uuids,
        Self::Timestamp,
    ];

    /// The bounded word in metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::RequiredFields => "missing_field",
            Self::EventType => "invalid_type",
            Self::AllowList => "type_not_allowed",
            Self::Uuids => "invalid_uuid",
            Self::Timestamp => "invalid_timestamp",
        }
    }
}

/// Why an event does not pass the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// The first step that it failed.
    pub step: Step,
    /// A sentence that names the field.
    pub detail: String,
}

/// What an event must be to pass.
#[derive(Debug, Clone)]
pub struct FilterConfig {
    /// Fields that must be there and not null or empty.
    pub required: Vec<String>,
    /// What a type must begin with; empty allows every type.
    pub type_prefixes: Vec<String>,
    /// Which types pass; `None` allows every type.
    pub allowed: Option<RegexSet>,
    /// Fields that must be UUIDs where they are given.
    pub uuids: Vec<String>,
    /// Whether a time inside the payload counts where there is none beside it.
    pub payload_timestamp: bool,
}

impl FilterConfig {
    /// Reads the settings, with the defaults of that profile.
    #[must_use]
    pub fn from_env(env: &Env, profile: Profile) -> Self {
        Self {
            required: list(
                env,
                "BRIDGE_REQUIRED_FIELDS",
                profile.required(),
                "Fields an event must have, by commas, or `none`. Generic: event_type; genesis: event_id, event_type, aggregate_id, payload.",
            ),
            type_prefixes: list(
                env,
                "BRIDGE_TYPE_PREFIXES",
                profile.type_prefixes(),
                "What an event type may begin with, by commas, or `none`. Genesis: `Genesis.Session.`.",
            ),
            allowed: allow_list::from_env(env, profile.type_patterns()),
            uuids: list(
                env,
                "BRIDGE_UUID_FIELDS",
                profile.uuids(),
                "Fields that must be UUIDs where given, by commas, or `none`. Generic: event_id. Genesis: event_id, aggregate_id, user_id, session_id, correlation_id.",
            ),
            payload_timestamp: profile.payload_timestamp(),
        }
    }
}

/// The filter of the bridge.
#[derive(Debug, Clone)]
pub struct EventFilter {
    config: FilterConfig,
}

impl EventFilter {
    /// A filter with these rules.
    #[must_use]
    pub fn new(config: FilterConfig) -> Self {
        Self { config }
    }

    /// Takes the steps in order.
    ///
    /// # Errors
    /// The first step it failed, and why.
    pub fn validate(&self, fields: &EventFields<'_>) -> Result<(), FailedStep> {
        Step::ALL.into_iter().try_for_each(|step| {
            self.step(step, fields)
                .map_err(|detail| FailedStep { step, detail })
        })
    }

    fn step(&self, step: Step, fields: &EventFields<'_>) -> Result<(), String> {
        match step {
            Step::RequiredFields => self.required(fields),
            Step::EventType => self.event_type(fields),
            Step::AllowList => self.allow_list(fields),
            Step::Uuids => self.uuids(fields),
            Step::Timestamp => self.timestamp(fields),
        }
    }

    fn required(&self, fields: &EventFields<'_>) -> Result<(), String> {
        for name in &self.config.required {
            let missing = match fields.field(name) {
                Field::Absent => true,
                Field::Text(text) => text.trim().is_empty(),
                Field::Other => false,
            };
            if missing {
                return Err(format!("{name} is required"));
            }
        }
        Ok(())
    }

    fn event_type(&self, fields: &EventFields<'_>) -> Result<(), String> {
        let text = match fields.field("event_type") {
            Field::Text(text) => text,
            // The first step rejects it where it is required.
            Field::Absent => return Ok(()),
            Field::Other => return Err("event_type must be a string".to_owned()),
        };
        let name = text.trim();
        if name.is_empty() || name.chars().count() > MAX_TYPE {
            return Err(format!("event_type must have 1 to {MAX_TYPE} characters"));
        }
        let prefixes = &self.config.type_prefixes;
        if prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            Ok(())
        } else {
            Err(format!(
                "event_type must begin with {}",
                prefixes.join(", ")
            ))
        }
    }

    fn allow_list(&self, fields: &EventFields<'_>) -> Result<(), String> {
        let Some(allowed) = &self.config.allowed else {
            return Ok(());
        };
        match fields.field("event_type") {
            Field::Text(name) if allowed.is_match(name.trim()) => Ok(()),
            _ => Err("event_type is not on the allow-list".to_owned()),
        }
    }

    fn uuids(&self, fields: &EventFields<'_>) -> Result<(), String> {
        for name in &self.config.uuids {
            let fits = match fields.field(name) {
                Field::Absent => true,
                Field::Text(text) => Uuid::try_parse(text.trim()).is_ok(),
                Field::Other => false,
            };
            if !fits {
                return Err(format!("{name} must be a UUID"));
            }
        }
        Ok(())
    }

    fn timestamp(&self, fields: &EventFields<'_>) -> Result<(), String> {
        let given = match fields.field("timestamp") {
            Field::Absent if self.config.payload_timestamp => fields.inside("timestamp"),
            given => given,
        };
        let fits = match given {
            Field::Absent => true,
            Field::Text(text) => text.trim().is_empty() || timestamp::parse(text.trim()).is_some(),
            Field::Other => false,
        };
        if fits {
            Ok(())
        } else {
            Err("timestamp must be a date-time such as 2024-01-01T12:00:00Z".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use domain::json::Members;
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "8f14e45f-ceea-467f-a8f5-5f9b1c0b7a11";

    fn filter(profile: Profile) -> EventFilter {
        let env = Env::from_map(HashMap::new());
        EventFilter::new(FilterConfig::from_env(&env, profile))
    }

    fn event() -> Value {
        json!({
            "event_id": ID, "event_type": "Genesis.Session.Started", "aggregate_id": ID,
            "payload": {"user_id": ID, "session_id": ID, "timestamp": "2025-01-01T00:00:00Z"},
        })
    }

    fn verdict(filter: &EventFilter, event: &Value) -> Result<(), (Step, String)> {
        let text = event.to_string();
        let members = Members::split(&text).unwrap();
        filter
            .validate(&EventFields::from_record(&members))
            .map_err(|failed| (failed.step, failed.detail))
    }

    fn with(changes: Value) -> Value {
        let mut event = event();
        for (key, value) in changes.as_object().unwrap() {
            match key.strip_prefix("payload.") {
                Some(key) => event["payload"][key] = value.clone(),
                None => event[key] = value.clone(),
            }
        }
        event
    }

    #[test]
    fn every_step_has_its_reason_and_comes_in_order() {
        let filter = filter(Profile::Genesis);
        assert_eq!(verdict(&filter, &event()), Ok(()));
        // Each event is wrong from one step on, in all that follow as well.
        let mut wrong = with(json!({"timestamp": "soon"}));
        let mut expected = vec![Step::Timestamp];
        assert_eq!(verdict(&filter, &wrong).unwrap_err().0, Step::Timestamp);
        for (change, step) in [
            (("correlation_id", json!("no-uuid")), Step::Uuids),
            (
                ("event_type", json!("Genesis.Session.Other")),
                Step::AllowList,
            ),
            (("event_type", json!("User.Other")), Step::EventType),
            (("aggregate_id", json!(null)), Step::RequiredFields),
        ] {
            wrong[change.0] = change.1;
            assert_eq!(verdict(&filter, &wrong).unwrap_err().0, step);
            expected.insert(0, step);
        }
        assert_eq!(expected, Step::ALL);
        let reasons: std::collections::BTreeSet<_> = Step::ALL.iter().map(|s| s.reason()).collect();
        assert_eq!(reasons.len(), Step::ALL.len());
    }

    #[test]
    fn the_genesis_list_is_the_specifications() {
        let filter = filter(Profile::Genesis);
        for name in [
            "Started",
            "Command.Received",
            "Command.Started",
            "Command.Completed",
            "Command.Failed",
            "Command.Progress",
            "StageCompleted",
            "Finished",
            "Failed",
            "BranchCreated",
            "Concept.Requested",
            "Theme.Generated",
            "Theme.Evaluated",
            "A.B.Proposed",
            "Theme.Confirmed",
            "Theme.Updated",
            "Theme.Revised",
            "Theme.Created",
        ] {
            let event = with(json!({"event_type": format!("Genesis.Session.{name}")}));
            assert_eq!(verdict(&filter, &event), Ok(()), "{name}");
        }
        for name in [
            "Genesis.Session.Started2",
            "Genesis.Session.Command.Other",
            "Genesis.Session.Deleted",
            "XGenesis.Session.Started",
            "Genesis.SessionXStarted",
            "genesis.session.started",
            "Genesis.Session.",
        ] {
            assert!(
                verdict(&filter, &with(json!({"event_type": name}))).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn genesis_wants_its_fields_and_uuids_in_payload_too() {
        let filter = filter(Profile::Genesis);
        for (change, step, field) in [
            (json!({"event_id": ""}), Step::RequiredFields, "event_id"),
            (json!({"payload": null}), Step::RequiredFields, "payload"),
            (json!({"event_id": 7}), Step::Uuids, "event_id"),
            (json!({"aggregate_id": "x"}), Step::Uuids, "aggregate_id"),
            (json!({"payload.user_id": "u-1"}), Step::Uuids, "user_id"),
            (
                json!({"payload.session_id": "s-1"}),
                Step::Uuids,
                "session_id",
            ),
            (
                json!({"payload.correlation_id": "c"}),
                Step::Uuids,
                "correlation_id",
            ),
            (json!({"event_type": 7}), Step::EventType, "event_type"),
            (
                json!({"payload.timestamp": "yesterday"}),
                Step::Timestamp,
                "timestamp",
            ),
            (json!({"timestamp": 17}), Step::Timestamp, "timestamp"),
        ] {
            let (failed, detail) = verdict(&filter, &with(change.clone())).unwrap_err();
            assert_eq!(failed, step, "{change}");
            assert!(detail.starts_with(field), "{change}: {detail}");
        }
    }

    #[test]
    fn generic_wants_a_type_only() {
        let filter = filter(Profile::Generic);
        for fine in [
            json!({"event_type": "any thing", "data": {"timestamp": 5}, "user_id": "u"}),
            json!({"type": "a", "source": "s", "data": {"user_id": "not-a-uuid"}}),
            json!({"event_type": "a", "payload": {"timestamp": "soon"}}),
        ] {
            assert_eq!(verdict(&filter, &fine), Ok(()), "{fine}");
        }
        for (wrong, step) in [
            (json!({"data": {}}), Step::RequiredFields),
            (json!({"event_type": " "}), Step::RequiredFields),
            (json!({"event_type": {}}), Step::EventType),
            (json!({"type": "a", "id": "not-a-uuid"}), Step::Uuids),
            (json!({"event_type": "x".repeat(256)}), Step::EventType),
            (
                json!({"event_type": "a", "occurred_at": "soon"}),
                Step::Timestamp,
            ),
        ] {
            assert_eq!(verdict(&filter, &wrong).unwrap_err().0, step, "{wrong}");
        }
    }
}
