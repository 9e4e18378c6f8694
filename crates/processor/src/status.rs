//! `GET /api/v1/coordinator/status`: what this process does with events (S3-25).

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use domain::timestamp;
use serde::Serialize;
use service::auth::Access;
use service::http::get;
use time::OffsetDateTime;
use utoipa::{OpenApi, ToSchema};

use crate::rules::RuleCache;

/// What coordinates the events of a process that stores.
#[derive(Clone)]
pub(crate) struct Coordinator {
    pub(crate) rules: RuleCache,
    pub(crate) handlers: Arc<[String]>,
    pub(crate) tasks: usize,
    pub(crate) publisher: &'static str,
}

/// What this process does with events.
#[derive(Debug, Serialize, ToSchema)]
pub struct CoordinatorStatus {
    /// The schema is there and the rules are read: events are stored and handled.
    pub initialized: bool,
    /// The handlers of this program, by name.
    #[schema(example = json!(["welcome"]))]
    pub registered_handlers: Vec<String>,
    /// Processors that get events, handlers among them, by name.
    pub active_processors: Vec<String>,
    /// Tasks that were started to store events and to do what follows.
    pub background_tasks_count: usize,
    /// `postgresql`
    #[schema(example = "postgresql")]
    pub event_store_type: &'static str,
    /// Where stored events are announced: `kafka`, or `none`.
    #[schema(example = "kafka")]
    pub event_publisher_type: &'static str,
    /// Now.
    #[serde(serialize_with = "timestamp::serialize")]
    pub timestamp: OffsetDateTime,
}

#[derive(OpenApi)]
#[openapi(paths(read))]
struct Described;

/// The description of its route.
#[must_use]
pub fn description() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

impl Coordinator {
    /// Adds the route.
    pub(crate) fn routes(&self, app: &mut web::ServiceConfig) {
        let coordinator = web::Data::new(self.clone());
        let route = get("/api/v1/coordinator/status", Access::Operator, read);
        app.service(route.app_data(coordinator));
    }
}

/// What this process does with events: its handlers, the processors that get events, its tasks.
#[utoipa::path(get, path = "/api/v1/coordinator/status", tag = "operation", operation_id = "coordinator_status",
    responses((status = 200, body = CoordinatorStatus)))]
async fn read(coordinator: web::Data<Coordinator>) -> HttpResponse {
    let rules = coordinator.rules.known();
    let active = rules.iter().flat_map(|rules| &rules.processors);
    let active = active.filter(|one| !one.deleted);
    HttpResponse::Ok().json(CoordinatorStatus {
        initialized: rules.is_some(),
        registered_handlers: coordinator.handlers.to_vec(),
        active_processors: active.map(|one| one.processor_name.clone()).collect(),
        background_tasks_count: coordinator.tasks,
        event_store_type: "postgresql",
        event_publisher_type: coordinator.publisher,
        timestamp: service::clock::now(),
    })
}
