//! What became of an event in projections.

use serde::Serialize;
use store::projections::{Fate, OfEvent};
use utoipa::ToSchema;

/// A projection that an event concerns.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReceiptProjection {
    /// The name of the projection.
    #[schema(example = "totals")]
    pub projection_name: String,
    /// The number of its definition.
    pub definition_version: i32,
    /// The type of the entity.
    #[schema(example = "order")]
    pub entity_type: String,
    /// The entity whose state it is.
    pub entity_id: String,
    /// `folded`; `failed`, with `error`; `waits` until the state is built or refolded; `unknown` where
    /// more than a thousand events are in a state with an error.
    #[schema(example = "folded")]
    pub status: &'static str,
    /// Events in the state right after this one, in the order of the stream; null unless it is folded, and
    /// where more than a thousand events came after it.
    #[schema(required = true)]
    pub version: Option<i64>,
    /// Events in the state now.
    pub current_version: i64,
    /// Why it could not be folded.
    #[schema(required = true)]
    pub error: Option<String>,
}

impl From<OfEvent> for ReceiptProjection {
    fn from(of: OfEvent) -> Self {
        Self {
            projection_name: of.name,
            definition_version: of.definition_version,
            entity_type: of.entity_type,
            entity_id: of.entity_id,
            status: match of.fate {
                Fate::Folded => "folded",
                Fate::Failed => "failed",
                Fate::Waits => "waits",
                Fate::Unknown => "unknown",
            },
            version: of.version,
            current_version: of.current_version,
            error: of.error,
        }
    }
}
