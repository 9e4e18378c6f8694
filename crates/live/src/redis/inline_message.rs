//! Delivers messages that come with their pointers, without reading the channel.
//!
//! A pointer names the message before its own. Only if that is the last one the listeners have, and
//! nothing else has to be read or delivered first, is the message delivered as it came; otherwise
//! the channel is read, as if the pointer had come alone.

use std::sync::Arc;

use super::script::InlineMessage;
use super::state::ChannelStates;
use crate::message::Message;

impl ChannelStates {
    /// Delivers a message that is in no channel.
    pub(crate) fn send_transient(&self, key: &str, message: Message) {
        if let Some(channel) = self.channels.get(key) {
            channel.listeners.send_transient(&Arc::new(message));
        }
    }

    /// Delivers what came with pointers of one channel, in their order; `None` is a pointer alone.
    pub(crate) fn deliver_inline(
        &mut self,
        key: &str,
        messages: impl IntoIterator<Item = Option<InlineMessage>>,
    ) {
        let gap = self.gap;
        let Some(channel) = self.channels.get_mut(key) else {
            return;
        };
        let gap = channel.gap(gap);
        let mut entries = Vec::new();
        let mut seamless = channel.is_read() && channel.gap_delivered >= gap;
        for message in messages {
            let Some(InlineMessage { previous, entry }) = message.filter(|_| seamless) else {
                seamless = false;
                break;
            };
            if channel.cursor >= Some(entry.id) {
                // It was read already.
                continue;
            }
            seamless = channel.cursor == Some(previous) && entry.id > gap;
            if seamless {
                channel.cursor = Some(entry.id);
                entries.push(entry);
            }
        }
        channel.listeners.deliver_messages(entries);
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
    use crate::id::StreamId;
    use crate::redis::testing::{KEY, read, received, states};

    /// The message of that millisecond, after that of another one.
    fn inline(previous: u64, at: u64) -> Option<InlineMessage> {
        InlineMessage::parse(format!("{}-0 {at}-0 1\ne{{}}", previous).as_bytes())
    }

    #[test]
    fn a_message_that_follows_the_last_one_needs_no_reading() {
        let (mut states, queue) = states(Resume::Live);
        received(&queue);
        states.deliver_inline(KEY, [inline(100, 300), inline(300, 301)]);
        assert_eq!(received(&queue), ["300,301"]);
        assert!(!states.has_work());
        read(&mut states, 400, &[302], None);
        assert_eq!(received(&queue), ["302"]);
    }

    #[test]
    fn after_one_that_is_missing_the_channel_is_read() {
        let (mut states, queue) = states(Resume::Live);
        received(&queue);
        states.deliver_inline(KEY, [inline(100, 300), inline(301, 302), inline(302, 303)]);
        assert_eq!(received(&queue), ["300"]);
        assert!(states.has_work());
        // Until then nothing gets ahead, seamless as it may be.
        states.deliver_inline(KEY, [inline(300, 304)]);
        assert!(received(&queue).is_empty());
        read(&mut states, 400, &[301, 302, 303, 304], None);
        assert_eq!(received(&queue), ["301,302,303,304"]);
    }

    #[test]
    fn one_that_was_read_already_is_not_given_again() {
        let (mut states, queue) = states(Resume::Live);
        received(&queue);
        read(&mut states, 400, &[300, 301], None);
        received(&queue);
        states.deliver_inline(KEY, [inline(100, 300), inline(300, 301), inline(301, 302)]);
        assert_eq!(received(&queue), ["302"]);
        assert!(!states.has_work());
    }

    #[test]
    fn a_gap_that_was_not_delivered_comes_first() {
        let (mut states, queue) = states(Resume::Live);
        received(&queue);
        states.observe_gap(Some(StreamId::before(301)));
        states.deliver_inline(KEY, [inline(100, 302)]);
        assert!(received(&queue).is_empty());
        read(&mut states, 400, &[302], Some(302));
        assert_eq!(received(&queue), ["gap 300", "302"]);
    }
}
