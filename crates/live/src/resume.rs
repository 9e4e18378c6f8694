//! Whether a listener can resume where it was: the one place that decides it.

use crate::id::{Resume, StreamId};

/// An id may lie this far ahead of the server's clock: after a failover clocks differ a little.
const CLOCK_TOLERANCE_MS: u64 = 5_000;

/// Why a listener may have missed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// It resumed after something that is no id.
    Malformed,
    /// No message of this channel has that id.
    Unknown,
    /// The channel keeps a limited number of messages and older ones are gone.
    Trimmed,
    /// The channel was quiet, or without a listener, for longer than it is kept.
    Expired,
    /// Messages were dropped, or the server lost them.
    Gap,
}

impl Reset {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Trimmed => "trimmed",
            Self::Expired => "expired",
            Self::Gap => "gap",
        }
    }
}

/// What a channel still has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Its oldest message; `None` if all were removed.
    pub(crate) first: Option<StreamId>,
    /// Whether it ever lost a message to its limit.
    pub(crate) trimmed: bool,
    /// Whether the very message to resume after is among them.
    pub(crate) has: bool,
    /// Its newest message ever, removed or not.
    pub(crate) last: Option<StreamId>,
}

impl Kept {
    /// Whether messages may be missing between `after`, which was read a moment ago, and the first
    /// one there is: they were removed before they could be read.
    pub(crate) fn is_cut(&self, after: StreamId) -> bool {
        let newer = self.last.is_some_and(|last| last > after);
        let cut = self.first.is_none_or(|first| after < first);
        self.trimmed && !self.has && newer && cut
    }
}

/// What is known at one moment about the channel in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct History {
    /// The server's clock.
    pub(crate) now_ms: u64,
    /// How long a quiet channel is kept.
    pub(crate) ttl_ms: u64,
    /// Messages before it may have been lost.
    pub(crate) gap: StreamId,
    /// Messages before it may not have been kept: nobody was listening.
    pub(crate) since: StreamId,
    /// `None`: nothing was published, or not for so long that the channel is gone.
    pub(crate) kept: Option<Kept>,
    /// The listener has waited while the server could not be read.
    pub(crate) late: bool,
}

/// Decides how a listener begins. `Ok`: after that id, or with what comes from now on if `None`.
/// `Err`: with a reset for that reason, and then with what comes from now on.
pub(crate) fn decide(resume: Resume, history: &History) -> Result<Option<StreamId>, Reset> {
    let after = match resume {
        // Messages since it joined may be lost, or have reached other listeners only.
        Resume::Live if history.late => return Err(Reset::Gap),
        Resume::Live => return Ok(None),
        Resume::Malformed => return Err(Reset::Malformed),
        Resume::After(after) => after,
    };
    if after < history.gap {
        return Err(Reset::Gap);
    }
    if after.ms > history.now_ms.saturating_add(CLOCK_TOLERANCE_MS) {
        return Err(Reset::Unknown);
    }
    if after < history.since {
        return Err(Reset::Expired);
    }
    let complete = if after.is_place_in_time() {
        since_then(after, history)
    } else {
        since_that_message(after, history.kept)
    };
    complete.map(|()| Some(after))
}

/// A message that is still there has everything after it there too: streams lose their oldest. After the
/// newest there is nothing to lose.
fn since_that_message(after: StreamId, kept: Option<Kept>) -> Result<(), Reset> {
    match kept {
        None => Err(Reset::Expired),
        Some(kept) if kept.has || kept.last == Some(after) => Ok(()),
        Some(kept) if kept.first.is_none_or(|first| after < first) => Err(Reset::Trimmed),
        Some(_) => Err(Reset::Unknown),
    }
}

fn since_then(after: StreamId, history: &History) -> Result<(), Reset> {
    // Only then can the channel have come and gone unseen: each message keeps it for that long.
    let old = history.now_ms.saturating_sub(after.ms) >= history.ttl_ms;
    match history.kept {
        Some(kept) if kept.first.is_some_and(|first| first <= after) => Ok(()),
        _ if old => Err(Reset::Expired),
        Some(kept) if kept.trimmed => Err(Reset::Trimmed),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StreamId {
        StreamId::parse(text).unwrap()
    }

    /// At 100 s, kept for 10 s, the last gap at 50 s.
    fn history(kept: Option<Kept>) -> History {
        History {
            now_ms: 100_000,
            ttl_ms: 10_000,
            gap: StreamId::before(50_000),
            since: StreamId::before(55_000),
            kept,
            late: false,
        }
    }

    fn kept(first: &str, trimmed: bool, has: bool) -> Option<Kept> {
        Some(Kept {
            first: Some(id(first)),
            trimmed,
            has,
            last: None,
        })
    }

    fn after(text: &str, kept: Option<Kept>) -> Result<Option<StreamId>, Reset> {
        decide(Resume::After(id(text)), &history(kept))
    }

    /// A place in time just before that millisecond.
    fn place(ms: u64, kept: Option<Kept>) -> Result<bool, Reset> {
        let resume = Resume::After(StreamId::before(ms));
        decide(resume, &history(kept)).map(|after| after.is_some())
    }

    #[test]
    fn without_a_place_it_begins_now() {
        assert_eq!(decide(Resume::Live, &history(None)), Ok(None));
        let late = History {
            late: true,
            ..history(None)
        };
        assert_eq!(decide(Resume::Live, &late), Err(Reset::Gap));
        assert!(decide(Resume::After(StreamId::before(95_000)), &late).is_ok());
        assert_eq!(
            decide(Resume::Malformed, &history(None)),
            Err(Reset::Malformed)
        );
    }

    #[test]
    fn before_the_last_gap_is_a_gap_whatever_is_still_there() {
        assert_eq!(
            after("49999-7", kept("40000-0", false, true)),
            Err(Reset::Gap)
        );
        assert_eq!(
            place(49_999, kept("40000-0", false, false)),
            Err(Reset::Gap)
        );
        assert_eq!(after("0-0", None), Err(Reset::Gap));
        // The gap itself is the first place after it.
        let listened = |text: &str, kept| {
            let history = History {
                since: StreamId::default(),
                ..history(kept)
            };
            decide(Resume::After(id(text)), &history)
        };
        let gap = StreamId::before(50_000).to_string();
        assert!(listened(&gap, kept("40000-0", true, false)).is_ok());
        assert!(listened("50000-0", kept("40000-0", false, true)).is_ok());
    }

    #[test]
    fn before_there_was_a_listener_nothing_was_kept() {
        let all = kept("40000-0", false, true);
        assert_eq!(after("54999-0", all), Err(Reset::Expired));
        assert_eq!(place(54_999, all), Err(Reset::Expired));
        // It began to be kept within that millisecond.
        assert_eq!(place(55_000, all), Ok(true));
        assert!(after("55000-0", all).is_ok());
    }

    #[test]
    fn an_id_from_the_future_is_unknown() {
        assert_eq!(
            after("105001-0", kept("90000-0", false, true)),
            Err(Reset::Unknown)
        );
        assert!(after("105000-0", kept("90000-0", false, true)).is_ok());
        assert_eq!(place(105_002, None), Err(Reset::Unknown));
        assert_eq!(place(105_001, None), Ok(true));
    }

    #[test]
    fn a_message_must_still_be_there() {
        assert_eq!(
            after("95000-1", kept("95000-1", true, true)),
            Ok(Some(id("95000-1")))
        );
        assert_eq!(
            after("95000-1", kept("95000-2", true, false)),
            Err(Reset::Trimmed)
        );
        assert_eq!(
            after("95000-1", kept("95000-0", false, false)),
            Err(Reset::Unknown)
        );
        assert_eq!(after("95000-1", None), Err(Reset::Expired));
        let emptied = Kept {
            first: None,
            trimmed: true,
            has: false,
            last: None,
        };
        assert_eq!(after("95000-1", Some(emptied)), Err(Reset::Trimmed));
        // It was the newest: nothing came after it.
        let newest = Kept {
            last: Some(id("95000-1")),
            ..emptied
        };
        assert_eq!(after("95000-1", Some(newest)), Ok(Some(id("95000-1"))));
    }

    #[test]
    fn what_was_removed_before_it_was_read_is_missed() {
        let kept = |first: Option<&str>, trimmed| Kept {
            first: first.map(id),
            trimmed,
            has: false,
            last: Some(id("200-0")),
        };
        // The message read last went with later ones, or everything did.
        assert!(kept(Some("150-0"), true).is_cut(id("100-0")));
        assert!(kept(None, true).is_cut(id("100-0")));
        assert!(kept(Some("150-0"), true).is_cut(StreamId::before(100)));
        // Nothing came, or nothing went.
        assert!(!kept(None, true).is_cut(id("200-0")));
        assert!(!kept(Some("150-0"), false).is_cut(id("100-0")));
        assert!(!kept(Some("90-0"), true).is_cut(StreamId::before(100)));
        let has = Kept {
            has: true,
            ..kept(Some("100-0"), true)
        };
        assert!(!has.is_cut(id("100-0")));
    }

    #[test]
    fn a_place_in_time_is_good_while_nothing_can_have_gone() {
        // Nothing there: nothing came, as long as it would have been kept.
        assert_eq!(place(95_000, None), Ok(true));
        assert_eq!(place(90_002, None), Ok(true));
        assert_eq!(place(90_001, None), Err(Reset::Expired));
        // Everything that ever came is there.
        assert_eq!(place(95_000, kept("96000-0", false, false)), Ok(true));
        // Something went, but older than the place.
        assert_eq!(place(95_000, kept("94000-0", true, false)), Ok(true));
        assert_eq!(place(60_000, kept("59000-0", true, false)), Ok(true));
        // Something went that may have been newer.
        assert_eq!(
            place(95_000, kept("96000-0", true, false)),
            Err(Reset::Trimmed)
        );
        // An older channel may have come and gone before this one.
        assert_eq!(
            place(60_000, kept("96000-0", false, false)),
            Err(Reset::Expired)
        );
    }
}
