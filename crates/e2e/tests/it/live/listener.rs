//! Behaves as a browser's EventSource: goes on where it was.

use std::time::Duration;

use serde_json::Value;
use testkit::{SseEvent, SseStream};

use super::feed::event_type;
use crate::world::PATIENCE;

/// What a listener was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The user's event with this number.
    Event(u64),
    /// Something may be missing before what follows.
    Reset(String),
}

/// Listens to one user.
pub(crate) struct Listener {
    url: String,
    user: String,
    stream: Option<SseStream>,
    pub(crate) last_event_id: String,
    pub(crate) seen: Vec<Seen>,
    pub(crate) connections: usize,
}

impl Listener {
    /// Connects and waits until the subscription stands. `base` is that of the query service.
    pub(crate) async fn begin(base: &str, user: &str) -> Self {
        let url = format!("{base}/api/v1/sse/users/{user}");
        let mut stream = SseStream::open(&url, None).await.unwrap();
        let last_event_id = stream.wait_cursor().await.unwrap();
        Self {
            url,
            user: user.to_owned(),
            stream: Some(stream),
            last_event_id,
            seen: vec![],
            connections: 1,
        }
    }

    /// Reads what comes next, over a new connection if need be. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> &Seen {
        let event = loop {
            if self.stream.is_none() {
                match SseStream::open(&self.url, Some(&self.last_event_id)).await {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        self.connections += 1;
                    }
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                }
            }
            let stream = self.stream.as_mut().unwrap();
            match stream.next().await {
                Ok(Some(event)) => break event,
                Ok(None) | Err(_) => self.drop_connection(),
            }
        };
        self.last_event_id.clone_from(&event.id);
        self.seen.push(self.read(&event));
        self.seen.last().unwrap()
    }

    /// Loses the connection, and with it everything that was not read.
    pub(crate) fn drop_connection(&mut self) {
        if let Some(stream) = self.stream.take()
            && let Some(id) = stream.last_event_id()
        {
            id.clone_into(&mut self.last_event_id);
        }
    }

    fn read(&self, event: &SseEvent) -> Seen {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        if event.event == "reset" {
            return Seen::Reset(data["reason"].as_str().unwrap().to_owned());
        }
        let n = data["payload"]["n"].as_u64().unwrap();
        assert_eq!(event.event, event_type(n), "{data}");
        assert_eq!(data["event_type"], event.event.as_str(), "{data}");
        assert_eq!(data["user_id"], self.user.as_str(), "{data}");
        Seen::Event(n)
    }

    /// Reads until the event with this number is there.
    pub(crate) async fn read_up_to(&mut self, n: u64) {
        let reading = async {
            while !self.seen.contains(&Seen::Event(n)) {
                self.next().await;
            }
        };
        if tokio::time::timeout(PATIENCE, reading).await.is_err() {
            panic!("{} waits for {n}: {:?}", self.user, self.seen);
        }
    }

    /// All events up to this number, each once, in order, and no reset.
    pub(crate) fn assert_complete(&self, n: u64) {
        let expected: Vec<Seen> = (1..=n).map(Seen::Event).collect();
        assert_eq!(self.seen, expected, "{}", self.user);
    }

    /// Rising numbers up to this one, none left out but before a reset; returns the reasons.
    pub(crate) fn assert_told(&self, n: u64) -> Vec<String> {
        let mut last = 0;
        let mut told = false;
        let mut reasons = Vec::new();
        for seen in &self.seen {
            match seen {
                Seen::Reset(reason) => {
                    told = true;
                    reasons.push(reason.clone());
                }
                Seen::Event(n) => {
                    let next = *n == last + 1 || (told && *n > last);
                    assert!(next, "{}: {n} after {last}: {:?}", self.user, self.seen);
                    (last, told) = (*n, false);
                }
            }
        }
        assert_eq!(last, n, "{}: {:?}", self.user, self.seen);
        reasons
    }
}

/// Numbers that look random, by a seed that a failure shows.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
