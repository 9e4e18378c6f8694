//! Probes: /health answers while the process lives and checks no dependency (C07, S4-160); /ready
//! reports whether the process can do its work, and what is missing (S4-161).

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::clock;

/// The version in the health bodies: the version of the API (S0-18, S4-01).
pub const VERSION: &str = "1.0.0";

/// The state of one dependency.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Whether the dependency can be used.
    pub ok: bool,
    /// The state in words.
    pub detail: String,
}

impl Check {
    /// The dependency can be used.
    pub fn ok(detail: impl Into<String>) -> Self {
        Self {
            ok: true,
            detail: detail.into(),
        }
    }

    /// The dependency cannot be used.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self {
            ok: false,
            detail: detail.into(),
        }
    }
}

type State = Arc<dyn Fn() -> Check + Send + Sync>;

#[derive(Clone)]
struct Entry {
    name: &'static str,
    /// Shown, but does not make the process unready.
    is_advisory: bool,
    state: State,
}

/// The checks of the probes. A check must be cheap: it reads a state that a task keeps.
#[derive(Clone)]
pub struct Health {
    service: Arc<str>,
    checks: Vec<Entry>,
}

impl Health {
    /// Probes of the service `service`, without checks.
    #[must_use]
    pub fn new(service: &str) -> Self {
        Self {
            service: service.into(),
            checks: Vec::new(),
        }
    }

    /// Adds a dependency to /ready.
    #[must_use]
    pub fn check(
        mut self,
        name: &'static str,
        state: impl Fn() -> Check + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Entry {
            name,
            is_advisory: false,
            state: Arc::new(state),
        });
        self
    }

    /// Adds the checks of a part as advisory ones, except those named in `required`. A check whose
    /// name is there already is left out.
    #[must_use]
    pub fn advisory(mut self, part: Self, required: &[&str]) -> Self {
        for check in part.checks {
            if self.checks.iter().all(|known| known.name != check.name) {
                self.checks.push(Entry {
                    is_advisory: check.is_advisory || !required.contains(&check.name),
                    ..check
                });
            }
        }
        self
    }

    /// Whether all that is required can be used, and each check by its name.
    #[must_use]
    pub fn report(&self) -> (bool, serde_json::Map<String, serde_json::Value>) {
        let mut all = true;
        let checks = self.checks.iter().map(|entry| {
            let check = (entry.state)();
            let mut value = serde_json::json!({ "ok": check.ok, "detail": check.detail });
            if entry.is_advisory {
                value["advisory"] = true.into();
            } else {
                all &= check.ok;
            }
            (entry.name.to_owned(), value)
        });
        let checks = checks.collect();
        (all, checks)
    }
}

#[derive(Serialize)]
struct HealthBody<'a> {
    status: &'static str,
    service: &'a str,
    version: &'static str,
    timestamp: String,
}

/// GET /health and /api/v1/health.
pub(crate) async fn health(health: web::Data<Health>) -> HttpResponse {
    HttpResponse::Ok().json(HealthBody {
        status: "healthy",
        service: &health.service,
        version: VERSION,
        timestamp: domain::timestamp::format(clock::now()),
    })
}

#[derive(Serialize)]
struct ReadyBody<'a> {
    status: &'static str,
    service: &'a str,
    checks: serde_json::Map<String, serde_json::Value>,
}

/// GET /ready.
pub(crate) async fn ready(health: web::Data<Health>) -> HttpResponse {
    let (all, checks) = health.report();
    let status = if all { "ready" } else { "not_ready" };
    let mut answer = if all {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    answer.json(ReadyBody {
        status,
        service: &health.service,
        checks,
    })
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    async fn answer(health: Health) -> (u16, serde_json::Value) {
        let answer = ready(web::Data::new(health)).await;
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body()).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[actix_web::test]
    async fn an_advisory_check_is_shown_and_a_required_one_counts() {
        let own = || Health::new("test").check("kafka", || Check::ok("down, spilling"));
        let part = |log: fn() -> Check| {
            Health::new("part")
                .check("kafka", || Check::failed("down"))
                .check("schema", || Check::failed("old"))
                .check("log", log)
        };
        let sound = own().advisory(part(|| Check::ok("2 partitions")), &["log", "kafka"]);
        let (status, body) = answer(sound).await;
        assert_eq!(
            (status, &body["checks"]),
            (
                200,
                &serde_json::json!({
                    "kafka": {"ok": true, "detail": "down, spilling"},
                    "schema": {"ok": false, "detail": "old", "advisory": true},
                    "log": {"ok": true, "detail": "2 partitions"},
                })
            )
        );
        let dead = own().advisory(part(|| Check::failed("no consumer")), &["log"]);
        let (status, body) = answer(dead).await;
        assert_eq!((status, &body["status"]), (503, &"not_ready".into()));
    }
}
