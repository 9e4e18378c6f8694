//! Sets of defaults for the bridge's rules (C15).

use regex::RegexSet;

use super::filter::FilterConfig;

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
    /// Its rules.
    #[must_use]
    pub fn filter(self) -> FilterConfig {
        FilterConfig {
            required: self.required(),
            type_prefixes: self.type_prefixes(),
            allowed: (self == Self::Genesis)
                .then(|| RegexSet::new(GENESIS_TYPES).unwrap_or_default()),
            uuids: self.uuids(),
            payload_timestamp: self == Self::Genesis,
        }
    }

    fn required(self) -> Vec<String> {
        owned(match self {
            Self::Generic => &["event_type"],
            Self::Genesis => &["event_id", "event_type", "aggregate_id", "payload"],
        })
    }

    fn type_prefixes(self) -> Vec<String> {
        owned(match self {
            Self::Generic => &[],
            Self::Genesis => &["Genesis.Session."],
        })
    }

    fn uuids(self) -> Vec<String> {
        owned(match self {
            Self::Generic => &["event_id"],
            Self::Genesis => &[
                "event_id",
                "aggregate_id",
                "user_id",
                "session_id",
                "correlation_id",
            ],
        })
    }

    pub(super) fn pass_through(self) -> Vec<String> {
        owned(match self {
            Self::Generic => &["correlation_id"],
            Self::Genesis => &["correlation_id", "novel_id", "trace_id"],
        })
    }
}

pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
