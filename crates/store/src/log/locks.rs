//! The advisory locks on the log.

/// First key of all advisory locks on the log of the connection's schema; the second is a partition
/// or one of the numbers below. `log_append` writes it out.
pub(crate) const CLASS: &str = "hashtext('tidegate log ' || current_schema())";
/// Held, shared, by every consumer.
pub(super) const CONSUMER: i32 = -2;
/// Held by the one that vacuums.
pub(super) const VACUUM: i32 = -3;
/// Held by the one that sends what is in the outbox for Kafka.
pub(crate) const OUTBOX: i32 = -4;
/// Held by the one that sends what is there for NATS.
pub(crate) const NATS_OUTBOX: i32 = -6;
/// Held, shared, by every storing transaction, and exclusively by one that changes rules.
pub(crate) const RULES: i32 = -5;
