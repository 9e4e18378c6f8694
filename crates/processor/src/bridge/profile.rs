//! Sets of defaults for the bridge's rules (C15).

use config::Env;

/// Topic of the profile [`Profile::Genesis`] (S2-40).
pub const GENESIS_TOPIC: &str = "genesis.domain.events";

/// The patterns of the profile [`Profile::Genesis`] (S2-22).
const GENESIS_TYPES: [&str; 4] = [
    r"^Genesis\.Session\.(Started|StageCompleted|Finished|Failed|BranchCreated)$",
    r"^Genesis\.Session\.Command\.(Received|Started|Completed|Failed|Progress)$",
    r"^Genesis\.Session\..*\.(Requested|Generated|Evaluated|Proposed)$",
    r"^Genesis\.Session\..*\.(Confirmed|Updated|Revised|Created)$",
];

/// A set of defaults for the rules (C15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Every event type, any user id.
    Generic,
    /// The specification's topic, list of types and UUIDs.
    Genesis,
}

impl Profile {
    /// Reads the setting.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        env.get_one_of(
            "BRIDGE_PROFILE",
            [("generic", Self::Generic), ("genesis", Self::Genesis)],
            "Defaults of the bridge's rules: generic (every type, any id) or genesis (the specification's).",
        )
    }

    /// One of two defaults.
    fn select<T>(self, generic: T, genesis: T) -> T {
        match self {
            Self::Generic => generic,
            Self::Genesis => genesis,
        }
    }

    /// Fields an event must have.
    pub(super) fn required(self) -> &'static [&'static str] {
        self.select(
            &["event_type"],
            &["event_id", "event_type", "aggregate_id", "payload"],
        )
    }

    /// What an event type may begin with; empty for anything.
    pub(super) fn type_prefixes(self) -> &'static [&'static str] {
        self.select(&[], &["Genesis.Session."])
    }

    /// Regular expressions of the event types that are published; `None` for every type.
    pub(super) fn type_patterns(self) -> Option<&'static [&'static str]> {
        self.select(None, Some(&GENESIS_TYPES))
    }

    /// Fields that must be UUIDs where they are given.
    pub(super) fn uuids(self) -> &'static [&'static str] {
        self.select(
            &["event_id"],
            &[
                "event_id",
                "aggregate_id",
                "user_id",
                "session_id",
                "correlation_id",
            ],
        )
    }

    /// Whether a time inside the payload counts where there is none beside it.
    pub(super) fn payload_timestamp(self) -> bool {
        self == Self::Genesis
    }

    /// Fields passed on beside the payload.
    pub(super) fn pass_through(self) -> &'static [&'static str] {
        self.select(
            &["correlation_id"],
            &["correlation_id", "novel_id", "trace_id"],
        )
    }
}

/// Reads a list with a default of the profile's; `none` empties it.
pub(super) fn list(env: &Env, name: &'static str, default: &[&str], doc: &str) -> Vec<String> {
    match env.get_opt(&[name], doc) {
        None => default.iter().map(ToString::to_string).collect(),
        Some(text) if text.eq_ignore_ascii_case("none") => vec![],
        Some(text) => split(&text),
    }
}

/// The parts between commas.
pub(super) fn split(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}
