//! Who is asking.

use std::sync::{Arc, LazyLock};

use actix_web::{HttpMessage as _, HttpRequest};
use domain::TenantId;
use domain::access::{Scope, Scopes};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Who is asking: whose events, which user, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose events it is about: reads and writes concern these and no others.
    pub tenant: TenantId,
    /// The user, of whose own events alone it may be; `None` for a service.
    pub user: Option<String>,
    /// What it may do.
    pub scopes: Scopes,
    /// Of an API key: what is begun with it ends with it.
    pub life: Option<Life>,
}

/// How long an API key is good; clones are of the same key.
#[derive(Debug, Clone, Default)]
pub struct Life(CancellationToken);

/// Who is asking is the same whatever becomes of the key.
impl PartialEq for Life {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Life {}

impl Life {
    /// Ends it.
    pub(super) fn end(&self) {
        self.0.cancel();
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Ready when it has ended.
    pub fn over(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }
}

static ANONYMOUS: LazyLock<Arc<Principal>> = LazyLock::new(|| {
    Arc::new(Principal {
        tenant: TenantId::default(),
        user: None,
        scopes: Scopes::of(&[Scope::Write]),
        life: None,
    })
});

static EVERYBODY: LazyLock<Arc<Principal>> =
    LazyLock::new(|| Arc::new(Principal::anybody(TenantId::default())));

impl Principal {
    /// That of a request, as the rule of its route has found it.
    ///
    /// # Panics
    /// The request came past every rule: a mistake in the program, answered 500.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Arc<Self> {
        let found = request.extensions().get::<Arc<Self>>().cloned();
        found.unwrap_or_else(|| panic!("a route without a rule: {:?}", request.match_pattern()))
    }

    /// A client of a public route without credentials: events of the default tenant.
    #[must_use]
    pub fn anonymous() -> Arc<Self> {
        Arc::clone(&ANONYMOUS)
    }

    /// Every client while AUTH_MODE is off: everything in the default tenant.
    #[must_use]
    pub fn everybody() -> Arc<Self> {
        Arc::clone(&EVERYBODY)
    }

    /// Everything in that tenant.
    #[must_use]
    pub fn anybody(tenant: TenantId) -> Self {
        Self {
            tenant,
            user: None,
            scopes: Scopes::of(&[Scope::Admin]),
            life: None,
        }
    }

    /// The user of whose events it may be and no others; `None` if it may be of all of the tenant.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.user
            .as_deref()
            .filter(|_| !self.scopes.permits(Scope::Admin))
    }

    /// Whether it may be about this user's events.
    #[must_use]
    pub fn may_be_about(&self, user: Option<&str>) -> bool {
        self.owner().is_none_or(|owner| user == Some(owner))
    }

    /// Whether it manages the whole installation: an admin of the default tenant.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.scopes.permits(Scope::Admin) && self.tenant == TenantId::default()
    }
}
