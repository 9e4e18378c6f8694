//! The event log on PostgreSQL (`event_log`): appended in the order of commits, read lane by lane
//! behind a cursor, removed in the transaction that stores the events. `docs/decisions/0009` says
//! why like this.
//!
//! - [`Appender`] appends; its commit is the acknowledgement.
//! - [`Reader`] reads, [`Member`] owns lanes, by locks of its session; [`Counter`] counts.
//! - [`crate::write::Batch::remove`] removes.

mod append;
mod house;
mod member;
mod read;
mod remove;

pub use append::{Appender, NewRow};
pub use house::{Backlog, Counter, vacuum};
pub use member::Member;
pub use read::{Cursor, Reader, Row};
pub use remove::left;
pub(crate) use remove::{prepare, remove};

/// Lanes of the log. Fixed: a key must never change its lane while rows of it are waiting.
pub const LANES: i16 = 16;

/// A row's place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Lane, 0 to 15.
    pub lane: i16,
    /// Number within the log; rises within a lane, with gaps.
    pub id: i64,
}

/// First key of all advisory locks on the log of the connection's schema; the second is a lane or
/// one of the numbers below. `log_append` writes it out.
pub(crate) const LOCK_CLASS: &str = "hashtext('tidegate log ' || current_schema())";
/// Held, shared, by every processor that takes part.
const LOCK_MEMBER: i32 = -2;
/// Held by the one who vacuums.
const LOCK_VACUUM: i32 = -3;
/// Held by the one who announces.
pub(crate) const LOCK_ANNOUNCE: i32 = -4;

/// The lane of a key: the same in every process and version.
#[must_use]
pub fn lane_of(key: &[u8]) -> i16 {
    // FNV-1a; the high half is folded in because the low bits alone mix badly.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = (hash ^ (hash >> 32) ^ (hash >> 16)) % LANES.unsigned_abs() as u64;
    // Below 16.
    i16::try_from(folded).unwrap_or(0)
}

/// Headers as they stand in their column: length and bytes of each name and value, in order, the
/// lengths as four bytes, most significant first.
#[must_use]
pub fn pack_headers<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in headers {
        for part in [name.as_bytes(), value] {
            // A record, and so each part of it, is far below 4 GiB.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
    }
    out
}

/// The reverse of [`pack_headers`]; stops at what is none.
#[must_use]
pub fn unpack_headers(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut headers = Vec::new();
    while let Some(name) = part(&mut bytes)
        && let Some(value) = part(&mut bytes)
    {
        headers.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
    headers
}

fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *bytes = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_spread_over_all_lanes_and_keep_theirs() {
        let mut counts = [0_usize; 16];
        for n in 0..16_000 {
            let lane = lane_of(format!("user:{n}").as_bytes());
            counts[usize::try_from(lane).unwrap()] += 1;
        }
        for (lane, count) in counts.iter().enumerate() {
            assert!(
                (800..1_200).contains(count),
                "lane {lane}: {count} of 16000"
            );
        }
        // Pinned: rows written by one version are followed by rows of the next.
        assert_eq!(
            (lane_of(b""), lane_of(b"user:1"), lane_of(b"order:7")),
            (3, 9, 6)
        );
    }

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = [
            ("a", &b"1"[..]),
            ("", b""),
            ("a", b"\0\xff"),
            ("\u{e4}", b"x"),
        ];
        let packed = pack_headers(headers.into_iter());
        let unpacked = unpack_headers(&packed);
        let expected: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
            .collect();
        assert_eq!(unpacked, expected);
        assert_eq!(unpack_headers(&[]), []);
        assert_eq!(unpack_headers(packed.split_last().unwrap().1).len(), 3);
    }
}
