//! Events to send: over every route and in every envelope, with repetitions and rubbish among them.
//!
//! Every event has a number, which it carries in `data.n` through all envelopes, and most have an
//! id. A repetition has the same number and id, and otherwise another content.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::world::{BACKEND, BUSINESS_ACTION, DOMAIN, SYSTEM_EVENT, USER_INTERACTION};

const CREATE: [&str; 4] = [
    "/api/v1/events/create",
    "/api/events/create",
    "/api/v1/events",
    "/api/events",
];
const BATCH: [&str; 2] = ["/api/v1/events/batch", "/api/events/batch"];
const FRONTEND: [&str; 2] = ["/api/frontend/events", "/api/v1/events/frontend"];
const FRONTEND_BATCH: [&str; 2] = [
    "/api/frontend/events/batch",
    "/api/v1/events/frontend/batch",
];
const CATEGORIES: [&str; 3] = ["user_interaction", "business_action", "system_event"];

/// What a request's answer must be.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// Accepted; for each event its number and its id, unless the service makes one.
    Accepted(Vec<(u64, Option<Uuid>)>),
    /// Refused with 400 or 422.
    Refused,
}

/// One HTTP request.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) path: &'static str,
    pub(crate) body: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) expected: Expected,
}

/// One record for Kafka.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) topic: &'static str,
    pub(crate) key: String,
    pub(crate) payload: String,
}

/// The two kinds, in the order in which they are to be sent.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) posts: Vec<Post>,
    pub(crate) lines: Vec<Line>,
}

/// Makes loads and remembers what has to come of them.
pub(crate) struct Maker {
    now: OffsetDateTime,
    /// Ids of the numbers so far, where we chose them.
    ids: Vec<Option<Uuid>>,
    slots: u64,
    rubbish: u64,
    /// The id of every event, by number; the sender adds those that the service made.
    pub(crate) named: HashMap<Uuid, u64>,
    /// Numbers of the events sent to Kafka without an id.
    pub(crate) anonymous: HashSet<u64>,
    /// Payloads sent to Kafka that are no events.
    pub(crate) malformed: HashSet<String>,
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self {
            now: OffsetDateTime::now_utc(),
            ids: Vec::new(),
            slots: 0,
            rubbish: 0,
            named: HashMap::new(),
            anonymous: HashSet::new(),
            malformed: HashSet::new(),
        }
    }

    /// `http` events over HTTP (a multiple of 100) and `kafka` to Kafka: 5 % repeat the id of an
    /// earlier one, whichever way that went, 1 % are malformed. With `anonymous`, 2 % of those for
    /// Kafka have no id.
    pub(crate) fn load(&mut self, http: usize, kafka: usize, anonymous: bool) -> Load {
        let mut load = Load::default();
        for hundred in 0..http / 100 {
            load.posts.push(self.batch(BATCH[hundred % 2], 50));
            load.posts
                .push(self.frontend_batch(FRONTEND_BATCH[hundred % 2], 25));
            for single in 0..24 {
                let post = self.single(hundred * 24 + single);
                load.posts.push(post);
            }
            load.posts.push(self.refused(CREATE[hundred % 4]));
        }
        for slot in 0..kafka {
            let line = if slot % 100 == 99 {
                let payload = self.rubbish();
                self.malformed.insert(payload.clone());
                Line {
                    topic: BACKEND,
                    key: format!("bad-{slot}"),
                    payload,
                }
            } else if anonymous && slot % 50 == 7 {
                self.anonymous_line()
            } else {
                self.line(slot)
            };
            load.lines.push(line);
        }
        load
    }

    /// A new number with a new id, or for every twentieth slot an old pair.
    fn next(&mut self) -> (u64, Uuid) {
        self.slots += 1;
        if self.slots % 20 == 19 {
            let old = self.slots.wrapping_mul(0x9e37_79b9_7f4a_7c15) % self.ids.len() as u64;
            if let Some(id) = self.ids[usize::try_from(old).unwrap()] {
                return (old, id);
            }
        }
        let n = self.ids.len() as u64;
        let id = Uuid::now_v7();
        self.ids.push(Some(id));
        self.named.insert(id, n);
        (n, id)
    }

    fn next_without_id(&mut self) -> u64 {
        self.slots += 1;
        self.ids.push(None);
        self.ids.len() as u64 - 1
    }

    /// Every third event has a time of its own: of these months, of last year, or of long ago.
    fn time(&self) -> Option<String> {
        let past = match self.slots % 12 {
            0 | 4 => Duration::minutes(i64::try_from(self.slots % 100_000).unwrap()),
            8 => Duration::days(i64::try_from(self.slots % 400).unwrap()),
            3 if self.slots % 60 == 3 => Duration::days(5_000),
            _ => return None,
        };
        Some(domain::timestamp::format(self.now - past))
    }

    fn fields(&self, n: u64, id: Option<Uuid>) -> Map<String, Value> {
        let mut fields = Map::from_iter([
            ("event_type".to_owned(), json!(event_type(n))),
            ("user_id".to_owned(), json!(user(n))),
            ("data".to_owned(), json!({"n": n, "slot": self.slots})),
        ]);
        if let Some(id) = id {
            fields.insert("event_id".to_owned(), json!(id));
        }
        if let Some(time) = self.time() {
            fields.insert("timestamp".to_owned(), json!(time));
        }
        fields
    }

    fn backend(&self, n: u64, id: Option<Uuid>) -> Value {
        let mut fields = self.fields(n, id);
        // Both spellings, and values outside the set.
        let (source, category) = match n % 3 {
            0 => ("event_source", "event_category"),
            _ => ("source", "category"),
        };
        fields.insert(
            source.to_owned(),
            json!(["backend", "system", "web"][n as usize % 3]),
        );
        fields.insert(
            category.to_owned(),
            json!(["user_action", "order", "user"][n as usize % 3]),
        );
        fields.insert("metadata".to_owned(), json!({"ip_address": "203.0.113.9"}));
        Value::Object(fields)
    }

    fn frontend(&self, n: u64, id: Option<Uuid>) -> Value {
        let mut fields = self.fields(n, id);
        fields.insert("category".to_owned(), json!(CATEGORIES[n as usize % 3]));
        fields.insert("page_url".to_owned(), json!("https://shop.example/cart"));
        fields.insert(
            "session_id".to_owned(),
            json!(format!("session-{}", n % 50)),
        );
        Value::Object(fields)
    }

    fn batch(&mut self, path: &'static str, size: usize) -> Post {
        let pairs: Vec<_> = (0..size).map(|_| self.next()).collect();
        let body: Value = pairs
            .iter()
            .map(|(n, id)| self.backend(*n, Some(*id)))
            .collect();
        post(path, &body, pairs)
    }

    fn frontend_batch(&mut self, path: &'static str, size: usize) -> Post {
        let pairs: Vec<_> = (0..size).map(|_| self.next()).collect();
        let events: Value = pairs
            .iter()
            .map(|(n, id)| self.frontend(*n, Some(*id)))
            .collect();
        let body = json!({"events": events, "client_info": {"browser": "Firefox", "version": 130}});
        post(path, &body, pairs)
    }

    fn single(&mut self, index: usize) -> Post {
        if index % 10 == 9 {
            let n = self.next_without_id();
            return Post {
                idempotency_key: Some(Uuid::now_v7().to_string()),
                expected: Expected::Accepted(vec![(n, None)]),
                ..post(CREATE[index % 4], &self.backend(n, None), vec![])
            };
        }
        let (n, id) = self.next();
        if index.is_multiple_of(3) {
            post(
                FRONTEND[index % 2],
                &self.frontend(n, Some(id)),
                vec![(n, id)],
            )
        } else {
            post(CREATE[index % 4], &self.backend(n, Some(id)), vec![(n, id)])
        }
    }

    fn refused(&mut self, path: &'static str) -> Post {
        Post {
            path,
            body: self.rubbish(),
            idempotency_key: None,
            expected: Expected::Refused,
        }
    }

    fn anonymous_line(&mut self) -> Line {
        let n = self.next_without_id();
        self.anonymous.insert(n);
        Line {
            topic: DOMAIN,
            key: user(n),
            payload: self.backend(n, None).to_string(),
        }
    }

    /// The five envelopes in turn, over all topics.
    fn line(&mut self, slot: usize) -> Line {
        let (n, id) = self.next();
        let data = json!({"n": n, "slot": self.slots, "user_id": user(n)});
        let event_type = event_type(n);
        let mut value = match slot % 5 {
            0 => self.backend(n, Some(id)),
            1 => {
                json!({"event_id": id, "event_type": event_type, "aggregate_id": user(n), "payload": data})
            }
            2 => {
                json!({"event_id": id, "aggregate_id": user(n), "event_type": event_type, "event_data": data})
            }
            3 => json!({"id": id, "type": event_type, "source": "billing", "data": data}),
            _ => {
                json!({"specversion": "1.0", "id": id, "type": event_type, "source": "/billing", "data": data})
            }
        };
        let time_key = [
            None,
            Some("timestamp"),
            Some("occurred_at"),
            Some("timestamp"),
            Some("time"),
        ];
        if let (Some(key), Some(time)) = (time_key[slot % 5], self.time()) {
            value[key] = json!(time);
        }
        let topics = [
            BACKEND,
            DOMAIN,
            BACKEND,
            USER_INTERACTION,
            BUSINESS_ACTION,
            BACKEND,
            SYSTEM_EVENT,
        ];
        Line {
            topic: topics[slot % 7],
            key: user(n),
            payload: value.to_string(),
        }
    }

    /// A text that is no event, each time another.
    pub(crate) fn rubbish(&mut self) -> String {
        self.slots += 1;
        self.rubbish += 1;
        let n = self.rubbish;
        match n % 9 {
            0 => format!(r#"{{"event_type":"load.bad","data":{{"n":{n}}}"#),
            1 => format!(r#"[{{"event_type":"load.bad","data":{{"n":{n}}}}}]"#),
            2 => format!(r#"{{"event_type":17,"data":{{"n":{n}}}}}"#),
            3 => format!(r#"{{"data":{{"n":{n}}}}}"#),
            4 => format!(r#"{{"event_type":"load.bad","timestamp":"yesterday {n}","data":{{}}}}"#),
            5 => format!(r#"{{"event_type":"load.bad","data":{{"n":{n},"t":"\u0000"}}}}"#),
            6 => format!(r#"{{"event_type":"load.bad","data":{{"n":{n},"x":1e400}}}}"#),
            7 => format!(
                r#"{{"event_type":"load.bad","timestamp":"2999-01-01T00:00:00Z","data":{{"n":{n}}}}}"#
            ),
            _ => format!("no JSON, {n} times"),
        }
    }
}

fn post(path: &'static str, body: &Value, pairs: Vec<(u64, Uuid)>) -> Post {
    Post {
        path,
        body: body.to_string(),
        idempotency_key: None,
        expected: Expected::Accepted(pairs.into_iter().map(|(n, id)| (n, Some(id))).collect()),
    }
}

/// Seventeen types, all with the same prefix.
fn event_type(n: u64) -> String {
    format!("load.type_{}", n % 17)
}

fn user(n: u64) -> String {
    format!("user-{}", n % 300)
}
