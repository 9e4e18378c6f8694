//! Messages that come with their pointers, so that nothing has to be read for them.
//!
//! A pointer names the message before its own. Only if that is the last one the listeners have, and
//! nothing else is to be read or told first, is the message given out as it came; otherwise the
//! channel is read, as if the pointer had brought nothing.

use bytes::Bytes;

use super::channel::Watch;
use crate::id::StreamId;
use crate::listeners::shared_batches;
use crate::message::{Entry, Message};
use crate::subscription::Delivery;

/// Larger messages are read when their pointer comes: what Redis holds back for a process that
/// cannot keep up stays small.
pub(crate) const LARGEST: usize = 8 * 1024;

/// A message, and the place of the one before it in its channel.
#[derive(Debug)]
pub(crate) struct Pushed {
    pub(crate) previous: StreamId,
    pub(crate) entry: Entry,
}

impl Pushed {
    /// Reads what [`super::script::PUBLISH`] says: `previous id length`, a line break, and the event
    /// of that length followed by the data. `None` for anything else, which is a pointer alone.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let end = payload.iter().position(|byte| *byte == b'\n')?;
        let (head, rest) = (
            std::str::from_utf8(&payload[..end]).ok()?,
            &payload[end + 1..],
        );
        let mut head = head.split(' ');
        let previous = StreamId::parse(head.next()?)?;
        let id = StreamId::parse(head.next()?)?;
        let (event, data) = rest.split_at_checked(head.next()?.parse().ok()?)?;
        let message = Message {
            event: std::str::from_utf8(event).ok()?.to_owned(),
            data: Bytes::copy_from_slice(data),
        };
        Some(Self {
            previous,
            entry: Entry { id, message },
        })
    }
}

impl Watch {
    /// Gives out what came with pointers of one channel, in their order; `None` is a pointer alone.
    pub(crate) fn push(&mut self, key: &str, pushed: impl IntoIterator<Item = Option<Pushed>>) {
        let gap = self.gap;
        let Some(channel) = self.channels.get_mut(key) else {
            return;
        };
        let mut entries = Vec::new();
        let mut seamless = channel.is_read() && channel.gap_told >= gap;
        for pushed in pushed {
            let had = |pushed: &Pushed| channel.cursor >= Some(pushed.entry.id);
            let next =
                |pushed: &Pushed| channel.cursor == Some(pushed.previous) && pushed.entry.id > gap;
            match pushed {
                Some(pushed) if seamless && had(&pushed) => {}
                Some(pushed) if seamless && next(&pushed) => {
                    channel.cursor = Some(pushed.entry.id);
                    entries.push(pushed.entry);
                }
                _ => {
                    seamless = false;
                    break;
                }
            }
        }
        for batch in shared_batches(entries) {
            channel.listeners.tell(&Delivery::Messages(batch));
        }
        if !seamless {
            self.mark(key);
        }
        self.forget_if_empty(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Resume;
    use crate::redis::testing::{KEY, given, id, read, watch};

    /// The message of that millisecond, after that of another one.
    fn pushed(previous: u64, at: u64) -> Option<Pushed> {
        Pushed::parse(format!("{}-0 {at}-0 1\ne{{}}", previous).as_bytes())
    }

    #[test]
    fn what_the_script_says_is_read_and_nothing_else() {
        let pushed = Pushed::parse("5-1 12-0 4\na é{\"n\": \"x\\n\"}\n".as_bytes()).unwrap();
        assert_eq!(pushed.previous, StreamId { ms: 5, seq: 1 });
        assert_eq!(pushed.entry.id, id(12));
        assert_eq!(pushed.entry.message.event, "a é");
        assert_eq!(&pushed.entry.message.data[..], b"{\"n\": \"x\\n\"}\n");
        for alone in [
            "12-0",
            "",
            "x\n",
            "5-1 12-0\n",
            "5-1 12-0 9\ne{}",
            "5 12-0 1\ne{}",
        ] {
            assert!(Pushed::parse(alone.as_bytes()).is_none(), "{alone:?}");
        }
    }

    #[test]
    fn a_message_that_follows_the_last_one_needs_no_reading() {
        let (mut watch, queue) = watch(Resume::Live);
        given(&queue);
        watch.push(KEY, [pushed(100, 300), pushed(300, 301)]);
        assert_eq!(given(&queue), ["300,301"]);
        assert!(!watch.has_work());
        read(&mut watch, 400, &[302], None);
        assert_eq!(given(&queue), ["302"]);
    }

    #[test]
    fn after_one_that_is_missing_the_channel_is_read() {
        let (mut watch, queue) = watch(Resume::Live);
        given(&queue);
        watch.push(KEY, [pushed(100, 300), pushed(301, 302), pushed(302, 303)]);
        assert_eq!(given(&queue), ["300"]);
        assert!(watch.has_work());
        // Until then nothing gets ahead, seamless as it may be.
        watch.push(KEY, [pushed(300, 304)]);
        assert!(given(&queue).is_empty());
        read(&mut watch, 400, &[301, 302, 303, 304], None);
        assert_eq!(given(&queue), ["301,302,303,304"]);
    }

    #[test]
    fn one_that_was_read_already_is_not_given_again() {
        let (mut watch, queue) = watch(Resume::Live);
        given(&queue);
        read(&mut watch, 400, &[300, 301], None);
        given(&queue);
        watch.push(KEY, [pushed(100, 300), pushed(300, 301), pushed(301, 302)]);
        assert_eq!(given(&queue), ["302"]);
        assert!(!watch.has_work());
    }

    #[test]
    fn a_gap_that_was_not_told_comes_first() {
        let (mut watch, queue) = watch(Resume::Live);
        given(&queue);
        watch.note_gap(Some(StreamId::before(301)));
        watch.push(KEY, [pushed(100, 302)]);
        assert!(given(&queue).is_empty());
        read(&mut watch, 400, &[302], Some(302));
        assert_eq!(given(&queue), ["gap 300", "302"]);
    }
}
