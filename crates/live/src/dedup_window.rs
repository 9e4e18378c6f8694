//! The events that channels received lately; keys that expire do the same in Redis.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

/// Pairs remembered at most, of all channels together; the oldest are forgotten first. About 10 MB.
const CAPACITY: usize = 100_000;

/// Remembers for a while which channel has received which event.
#[derive(Debug)]
pub(crate) struct DedupWindow {
    window_ms: u64,
    known: HashSet<(Uuid, Arc<str>)>,
    /// All of `known`, with the time at which each is forgotten, the oldest first.
    order: VecDeque<(u64, Uuid, Arc<str>)>,
}

impl DedupWindow {
    /// Remembers for `window_ms`; 0 for not at all.
    pub(crate) fn new(window_ms: u64) -> Self {
        Self {
            window_ms,
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether that channel receives the event for the first time; remembers that it has.
    pub(crate) fn first(&mut self, event_id: Uuid, channel: &Arc<str>, now_ms: u64) -> bool {
        if self.window_ms == 0 {
            return true;
        }
        while self
            .order
            .front()
            .is_some_and(|(until, ..)| *until <= now_ms)
        {
            self.forget_oldest();
        }
        if !self.known.insert((event_id, Arc::clone(channel))) {
            return false;
        }
        if self.order.len() >= CAPACITY {
            self.forget_oldest();
        }
        let until = now_ms.saturating_add(self.window_ms);
        self.order.push_back((until, event_id, Arc::clone(channel)));
        true
    }

    fn forget_oldest(&mut self) {
        if let Some((_, event_id, channel)) = self.order.pop_front() {
            self.known.remove(&(event_id, channel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_to_its_channel_for_a_while() {
        let mut window = DedupWindow::new(1_000);
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let id = Uuid::from_u128(7);
        assert!(window.first(id, &one, 50));
        assert!(window.first(id, &other, 60));
        assert!(!window.first(id, &one, 1_049), "not renewed by asking");
        assert!(window.first(id, &one, 1_050));
        assert!(!window.first(id, &other, 1_059));
        assert_eq!((window.known.len(), window.order.len()), (2, 2));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut window = DedupWindow::new(1_000);
        let channel: Arc<str> = "one".into();
        let mut first = |n: usize| window.first(Uuid::from_u128(n as u128), &channel, 0);
        assert!((0..=CAPACITY).all(&mut first));
        assert!(first(0), "the oldest was forgotten");
        assert!(!first(CAPACITY));
        assert_eq!(
            (window.known.len(), window.order.len()),
            (CAPACITY, CAPACITY)
        );
    }
}
