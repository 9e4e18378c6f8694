//! The bodies of requests and problems, as `/openapi.json` describes them. The requests are read by
//! the domain's decoders, which know more forms.

use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// One event (S4-18, S4-19). Unknown members are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EventRequest {
    /// The client's own id: a retry with the same id is stored once.
    pub event_id: Option<String>,
    /// What happened: 1 to 255 letters, digits, spaces and `_ - . : / @ + #`.
    #[schema(example = "user.logout", min_length = 1, max_length = 255)]
    pub event_type: String,
    /// `backend` by default; `source` is an alias.
    #[schema(example = "backend")]
    pub event_source: Option<String>,
    /// `user_action` by default; `category` is an alias.
    #[schema(example = "user_action")]
    pub event_category: Option<String>,
    /// Who did it.
    #[schema(max_length = 255)]
    pub user_id: Option<String>,
    /// In which session.
    #[schema(max_length = 255)]
    pub session_id: Option<String>,
    /// For which organisation.
    #[schema(max_length = 255)]
    pub organization_id: Option<String>,
    /// On which device.
    #[schema(max_length = 255)]
    pub device_id: Option<String>,
    /// What it belongs together with.
    #[schema(max_length = 255)]
    pub correlation_id: Option<String>,
    /// Type of the aggregate it changes.
    #[schema(max_length = 255)]
    pub aggregate_type: Option<String>,
    /// The aggregate it changes.
    #[schema(max_length = 255)]
    pub aggregate_id: Option<String>,
    /// The version that the stream of the aggregate must have; needs both of the above.
    pub expected_version: Option<ExpectedVersion>,
    /// What happened, in the client's words.
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Value>,
    /// About the event.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
    /// Around the event.
    #[schema(value_type = Option<Object>)]
    pub context: Option<serde_json::Value>,
    /// Further properties.
    #[schema(value_type = Option<Object>)]
    pub properties: Option<serde_json::Value>,
    /// When it happened; the time of receipt by default. Without a zone it is UTC.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub timestamp: Option<String>,
}

/// What version a stream is expected to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ExpectedVersion {
    /// The number of its last event.
    Number(u64),
    /// A word.
    Word(ExpectedWord),
}

/// A word for an expected version.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExpectedWord {
    /// Any version.
    Any,
    /// 0: the stream has no event yet.
    None,
}

/// One event of a browser or app (S0-20, S0-31). Unknown members are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FrontendRequest {
    /// The client's own id: a retry with the same id is stored once.
    pub event_id: Option<Uuid>,
    /// What happened. The examples are common ones (S0-36 to S0-38); any other is taken as well.
    #[schema(
        min_length = 1,
        max_length = 255,
        examples(
            "page_view",
            "button_click",
            "link_click",
            "scroll",
            "focus",
            "blur",
            "form_submit",
            "purchase",
            "registration",
            "login",
            "logout",
            "subscription",
            "api_error",
            "performance_issue",
            "network_error",
            "js_error",
            "timeout"
        )
    )]
    pub event_type: String,
    /// `user_interaction` (default), `business_action` or `system_event`.
    #[schema(example = "user_interaction")]
    pub category: Option<String>,
    /// Where it happened; kept in `context.page_url`.
    #[schema(max_length = 4096)]
    pub page_url: Option<String>,
    /// Who did it.
    #[schema(max_length = 255)]
    pub user_id: Option<String>,
    /// In which session.
    #[schema(max_length = 255)]
    pub session_id: Option<String>,
    /// What happened, in the client's words.
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Value>,
    /// About the event.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
    /// When it happened; the time of receipt by default.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub timestamp: Option<String>,
}

/// Many events of a browser or app (S0-22).
#[derive(Debug, Deserialize, ToSchema)]
pub struct FrontendBatchRequest {
    /// The events.
    pub events: Vec<FrontendRequest>,
    /// About the client, at most 4 KiB; added to every event (S0-24).
    #[schema(value_type = Option<Object>)]
    pub client_info: Option<serde_json::Value>,
}
