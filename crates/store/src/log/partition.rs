//! The partitions of the log, and positions in them.

/// The name of the log among the topics of `log_positions`. A topic of Kafka has no colon.
pub const LOG: &str = "postgres:event_log";

/// Partitions of the log. Fixed: a key must never change its partition while rows of it are waiting.
pub const PARTITIONS: i16 = 16;

/// A row's position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogPosition {
    /// Partition, 0 to 15.
    pub partition: i16,
    /// Number within the log; rises within a partition, with gaps.
    pub offset: i64,
}

/// The partition of a key: the same in every process and version.
#[must_use]
pub fn partition_of(key: &[u8]) -> i16 {
    // FNV-1a; the high half is folded in because the low bits alone mix badly.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = (hash ^ (hash >> 32) ^ (hash >> 16)) % PARTITIONS.unsigned_abs() as u64;
    // Below 16.
    i16::try_from(folded).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_partitions_and_keep_theirs() {
        let mut counts = [0_usize; 16];
        for n in 0..16_000 {
            let partition = partition_of(format!("user:{n}").as_bytes());
            counts[usize::try_from(partition).unwrap()] += 1;
        }
        for (partition, count) in counts.iter().enumerate() {
            assert!(
                (800..1_200).contains(count),
                "partition {partition}: {count} of 16000"
            );
        }
        // Pinned: rows written by one version are followed by rows of the next.
        assert_eq!(
            (
                partition_of(b""),
                partition_of(b"user:1"),
                partition_of(b"order:7")
            ),
            (3, 9, 6)
        );
    }
}
