//! A port that administrators have to themselves.

use std::sync::{Arc, OnceLock};

use crate::auth::access::Access;

/// The port that the routes of administrators have to themselves, once it is bound.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdminPort(Arc<OnceLock<u16>>);

impl AdminPort {
    /// It is bound.
    pub(crate) fn set(&self, port: u16) {
        self.0.get_or_init(|| port);
    }

    /// Whether a route with that rule is served on that port: administrators' on theirs alone, probes on
    /// both, everything else on the other.
    pub(crate) fn serves(&self, port: u16, path: &str, access: Access) -> bool {
        let Some(admin) = self.0.get() else {
            return true;
        };
        let is_admins = matches!(access, Access::Admin | Access::Operator) || path == "/metrics";
        if port == *admin {
            is_admins || access == Access::Public
        } else {
            !is_admins
        }
    }
}
