//! Numbered events: each user's are 1, 2, 3 …, in `payload.n` of what a listener gets.

use serde_json::{Value, json};
use testkit::eventually;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::world::{DOMAIN, PATIENCE, World};

/// How a user's events are sent: always the same way, as only one way keeps an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Backend,
    Frontend,
    Log,
}

/// What is to be sent next, and how.
pub(crate) struct Feed {
    http: reqwest::Client,
    ingest: String,
    users: usize,
    /// The number of every user's last event.
    pub(crate) last: u64,
    /// Put into every event's data to make it larger.
    filling: String,
    only_backend: bool,
}

/// Events of one request.
const PER_POST: usize = 50;

pub(crate) fn user(number: usize) -> String {
    format!("user-{number}")
}

/// Five types under two roots.
pub(crate) fn event_type(n: u64) -> String {
    [
        "order.placed",
        "order.paid",
        "order.sent",
        "chat.message.posted",
        "chat.closed",
    ][usize::try_from(n % 5).unwrap()]
    .to_owned()
}

impl Feed {
    /// Of that many users, by all ways: half over the backend route, a quarter each over the
    /// frontend route and straight through the log.
    pub(crate) fn new(ingest: String, users: usize) -> Self {
        Self {
            http: crate::sender::client(),
            ingest,
            users,
            last: 0,
            filling: String::new(),
            only_backend: false,
        }
    }

    /// Over the backend route only, with so many bytes more in each event.
    pub(crate) fn over_http(ingest: String, users: usize, bytes: usize) -> Self {
        Self {
            filling: "x".repeat(bytes),
            only_backend: true,
            ..Self::new(ingest, users)
        }
    }

    fn way(&self, user: usize) -> Way {
        match user % 4 {
            1 if !self.only_backend => Way::Frontend,
            3 if !self.only_backend => Way::Log,
            _ => Way::Backend,
        }
    }

    /// Sends every user's next event and returns when all are acknowledged.
    pub(crate) async fn round(&mut self, world: &World) {
        self.last += 1;
        let mut posts = JoinSet::new();
        for way in [Way::Backend, Way::Frontend] {
            let users: Vec<usize> = (0..self.users).filter(|u| self.way(*u) == way).collect();
            for users in users.chunks(PER_POST) {
                let events: Value = users.iter().map(|user| self.event(*user, way)).collect();
                let (path, body) = match way {
                    Way::Frontend => ("/api/frontend/events/batch", json!({"events": events})),
                    _ => ("/api/v1/events/batch", events),
                };
                posts.spawn(post(
                    self.http.clone(),
                    format!("{}{path}", self.ingest),
                    body,
                ));
            }
        }
        let lines: Vec<(String, String)> = (0..self.users)
            .filter(|u| self.way(*u) == Way::Log)
            .map(|u| (user(u), self.event(u, Way::Log).to_string()))
            .collect();
        if !lines.is_empty() {
            world.send_lines(DOMAIN, lines).await.unwrap();
        }
        posts.join_all().await;
    }

    fn event(&self, number: usize, way: Way) -> Value {
        let (n, user) = (self.last, user(number));
        let mut data = json!({"n": n});
        if !self.filling.is_empty() {
            data["filling"] = json!(self.filling);
        }
        let (id, event_type) = (Uuid::now_v7(), event_type(n));
        match way {
            Way::Backend => json!({
                "event_id": id, "event_type": event_type, "user_id": user, "data": data,
                "event_source": "backend", "event_category": "user_action",
            }),
            Way::Frontend => json!({
                "event_id": id, "event_type": event_type, "user_id": user, "data": data,
                "category": "business_action", "session_id": format!("session-{number}"),
            }),
            Way::Log => {
                data["user_id"] = json!(user);
                json!({
                    "event_id": id, "event_type": event_type, "aggregate_id": Uuid::now_v7(),
                    "payload": data,
                })
            }
        }
    }
}

/// Sends until it is accepted.
async fn post(http: reqwest::Client, url: String, body: Value) {
    eventually("the gateway accepts", PATIENCE, || async {
        let answer = http.post(&url).json(&body).send().await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        assert!(
            status.is_success() || status == 503,
            "{status}: {}",
            answer.text().await.unwrap()
        );
        if status.is_success() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
}
