//! The routes for events: their paths, and what else differs between them.

use actix_web::http::StatusCode;
use service::auth::Access;

/// GET whether events of browsers and apps can be taken (S0-19, S4-51).
pub const FRONTEND_HEALTH: [&str; 2] = ["/api/frontend/health", "/api/v1/events/frontend/health"];

/// A route that takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// POST one event (S1-06, S1-08).
    Events,
    /// POST one event (S0-25, S4-18).
    Create,
    /// POST many events (S0-27, S4-21).
    Batch,
    /// POST one event of a browser or app (S0-20, S4-52).
    Frontend,
    /// POST many events of a browser or app (S0-22, S4-53).
    FrontendBatch,
    /// POST messages of Segment's and RudderStack's clients (S4-54 to S4-56).
    Segment,
    /// POST messages of RudderStack's webhook (S4-54).
    Rudderstack,
}

impl Route {
    /// Every route, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Create,
        Self::Batch,
        Self::Frontend,
        Self::FrontendBatch,
        Self::Segment,
        Self::Rudderstack,
    ];

    /// The path and its aliases.
    #[must_use]
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Events => &["/api/events", "/api/v1/events"],
            Self::Create => &["/api/events/create", "/api/v1/events/create"],
            Self::Batch => &["/api/events/batch", "/api/v1/events/batch"],
            Self::Frontend => &["/api/frontend/events", "/api/v1/events/frontend"],
            Self::FrontendBatch => &[
                "/api/frontend/events/batch",
                "/api/v1/events/frontend/batch",
            ],
            Self::Segment => &[
                "/v1/batch",
                "/v1/import",
                "/v1/track",
                "/v1/identify",
                "/v1/page",
                "/v1/screen",
                "/v1/group",
                "/v1/alias",
                "/v1/t",
                "/v1/i",
                "/v1/p",
                "/v1/s",
                "/v1/g",
                "/v1/a",
            ],
            Self::Rudderstack => &["/webhooks/rudderstack"],
        }
    }

    /// What it wants of who is asking: nothing where browsers and webhooks send (S4-112).
    #[must_use]
    pub fn access(self) -> Access {
        match self {
            Self::Frontend | Self::FrontendBatch | Self::Rudderstack => Access::PublicWrite,
            Self::Events | Self::Create | Self::Batch | Self::Segment => Access::Write,
        }
    }

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Create => "create",
            Self::Batch => "batch",
            Self::Frontend => "frontend",
            Self::FrontendBatch => "frontend_batch",
            Self::Segment => "segment",
            Self::Rudderstack => "rudderstack",
        }
    }

    /// The status of the good answer (C02).
    #[must_use]
    pub fn success(self) -> StatusCode {
        match self {
            Self::Events => StatusCode::ACCEPTED,
            Self::Create | Self::Batch => StatusCode::CREATED,
            Self::Frontend | Self::FrontendBatch | Self::Segment | Self::Rudderstack => {
                StatusCode::OK
            }
        }
    }

    /// The path for the other shape of body, one event or many.
    #[must_use]
    pub fn sibling(self) -> &'static str {
        let sibling = match self {
            Self::Events | Self::Create => Self::Batch,
            Self::Batch => Self::Create,
            Self::Frontend => Self::FrontendBatch,
            Self::FrontendBatch => Self::Frontend,
            Self::Segment | Self::Rudderstack => self,
        };
        sibling.paths()[0]
    }

    /// Whether it takes the events of browsers and apps.
    #[must_use]
    pub fn is_frontend(self) -> bool {
        matches!(self, Self::Frontend | Self::FrontendBatch)
    }

    /// Whether it takes the messages of Segment's and RudderStack's clients.
    #[must_use]
    pub fn is_messages(self) -> bool {
        matches!(self, Self::Segment | Self::Rudderstack)
    }

    /// The CloudEvents media type it takes, if any.
    #[must_use]
    pub fn cloudevents(self) -> Option<&'static str> {
        match self {
            Self::Events | Self::Create => Some("application/cloudevents+json"),
            Self::Batch => Some("application/cloudevents-batch+json"),
            Self::Frontend | Self::FrontendBatch | Self::Segment | Self::Rudderstack => None,
        }
    }
}
