//! How much a tenant may send and hold.

use crate::id::TenantId;

/// Most events a second that can be set.
pub const MAX_EVENTS_PER_SECOND: i64 = 10_000_000;
/// Most bytes a day that can be set.
pub const MAX_BYTES_PER_DAY: i64 = 1 << 50;
/// Most types a day that can be set.
pub const MAX_TYPES_PER_DAY: i64 = 100_000;
/// Most live streams that can be set.
pub const MAX_CONNECTIONS: i64 = 10_000_000;

/// The limits of one tenant. Of each, 0 is no limit, and `None` is what the service's setting says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantLimits {
    /// Events that a gateway takes in a second.
    pub events_per_second: Option<i64>,
    /// Bytes of events that a gateway takes on a day, UTC.
    pub bytes_per_day: Option<i64>,
    /// Types of events that a gateway takes on a day, UTC.
    pub types_per_day: Option<i64>,
    /// Open live streams in a process.
    pub connections: Option<i64>,
}

impl TenantLimits {
    /// Their names, as they are asked for and shown, and the most that each may be.
    pub const NAMES: [(&str, i64); 4] = [
        ("events_per_second", MAX_EVENTS_PER_SECOND),
        ("bytes_per_day", MAX_BYTES_PER_DAY),
        ("types_per_day", MAX_TYPES_PER_DAY),
        ("connections", MAX_CONNECTIONS),
    ];

    /// Each, in the order of [`Self::NAMES`].
    #[must_use]
    pub fn values(&self) -> [Option<i64>; 4] {
        [
            self.events_per_second,
            self.bytes_per_day,
            self.types_per_day,
            self.connections,
        ]
    }

    /// Of these values, in that order.
    #[must_use]
    pub fn of(values: [Option<i64>; 4]) -> Self {
        let [events_per_second, bytes_per_day, types_per_day, connections] = values;
        Self {
            events_per_second,
            bytes_per_day,
            types_per_day,
            connections,
        }
    }

    /// These, and where they say nothing, those.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let (own, others) = (self.values(), others.values());
        Self::of([0, 1, 2, 3].map(|n: usize| own[n].or(others[n])))
    }
}

/// A tenant with limits of its own.
pub type LimitedTenant = (TenantId, TenantLimits);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenant_has_of_its_own_comes_before_the_settings() {
        let settings = TenantLimits::of([Some(10), Some(20), Some(0), None]);
        let own = TenantLimits {
            bytes_per_day: Some(0),
            connections: Some(5),
            ..TenantLimits::default()
        };
        let both = TenantLimits::of([Some(10), Some(0), Some(0), Some(5)]);
        assert_eq!(own.or(settings), both);
        assert_eq!(TenantLimits::default().or(settings), settings);
    }
}
