//! Probes: /health says that the process lives and never looks at anything else (C07, S4-160);
//! /ready says whether it can do its work, and what is missing (S4-161).

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::clock;

/// The version in the health bodies: the version of the API (S0-18, S4-01).
pub const VERSION: &str = "1.0.0";

/// The state of one dependency.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Whether it can be used.
    pub ok: bool,
    /// A sentence for the engineer who is looking.
    pub detail: String,
}

impl Check {
    /// It can be used.
    pub fn ok(detail: impl Into<String>) -> Self {
        Self {
            ok: true,
            detail: detail.into(),
        }
    }

    /// It cannot.
    pub fn failed(detail: impl Into<String>) -> Self {
        Self {
            ok: false,
            detail: detail.into(),
        }
    }
}

type State = Arc<dyn Fn() -> Check + Send + Sync>;

/// What the probes answer from. A check must be cheap: it reads a state that something else keeps.
#[derive(Clone)]
pub struct Health {
    service: Arc<str>,
    checks: Vec<(&'static str, State)>,
}

impl Health {
    /// Probes of a service of that name, without checks yet.
    #[must_use]
    pub fn new(service: &str) -> Self {
        Self {
            service: service.into(),
            checks: Vec::new(),
        }
    }

    /// Adds a dependency that /ready looks at.
    #[must_use]
    pub fn check(
        mut self,
        name: &'static str,
        state: impl Fn() -> Check + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Arc::new(state)));
        self
    }

    /// The routes: GET /health, /api/v1/health, /ready. HEAD works as well.
    pub fn routes(&self, app: &mut web::ServiceConfig) {
        app.app_data(web::Data::new(self.clone()));
        for path in ["/health", "/api/v1/health"] {
            app.service(crate::http::get(path, health));
        }
        app.service(crate::http::get("/ready", ready));
    }
}

#[derive(Serialize)]
struct HealthBody<'a> {
    status: &'static str,
    service: &'a str,
    version: &'static str,
    timestamp: String,
}

async fn health(health: web::Data<Health>) -> HttpResponse {
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

async fn ready(health: web::Data<Health>) -> HttpResponse {
    let mut all = true;
    let checks = health
        .checks
        .iter()
        .map(|(name, state)| {
            let check = state();
            all &= check.ok;
            let value = serde_json::json!({ "ok": check.ok, "detail": check.detail });
            ((*name).to_owned(), value)
        })
        .collect();
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
