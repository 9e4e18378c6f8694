//! Where somebody can add figures of their own (S2-67).

use domain::Event;
use serde_json::{Map, Value};

use super::metrics::Metrics;

/// Called by the bridge; every method has a default that does nothing. Must not block.
pub trait Extension: Send + Sync + 'static {
    /// An event was published. Figures go to [`Metrics::record_custom_metric`].
    fn published(&self, event: &Event, metrics: &Metrics) {
        let _ = (event, metrics);
    }

    /// What is to stand under `custom` in the bridge's health.
    fn get_custom_health_status(&self) -> Map<String, Value> {
        Map::new()
    }
}

/// No extension.
impl Extension for () {}
