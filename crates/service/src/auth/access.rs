//! The rules: what a route wants of who is asking.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use actix_web::HttpResponse;
use actix_web::http::Method;
use domain::access::Scope;
use serde::Serialize;

use super::principal::Principal;

/// What a route wants of who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nothing: probes and what is the same in every installation. Credentials are not looked at.
    Public,
    /// Nothing (S4-112), but a client that shows credentials must show good ones, with the scope `write`:
    /// their tenant is that of the events.
    PublicWrite,
    /// The scope `write`.
    Write,
    /// The scope `read`; a user is shown what is the user's own, which the handler sees to.
    Own,
    /// The same, or a ticket in the query: browsers send no headers for a live stream.
    OwnOrTicket,
    /// The scope `read`, of the whole tenant: nothing for a user.
    Read,
    /// The scope `replay`.
    Replay,
    /// The scope `admin`.
    Admin,
    /// The scope `admin` in the default tenant: what concerns the whole installation.
    Operator,
}

impl Access {
    /// Whether these may come in.
    #[must_use]
    pub fn admits(self, who: &Principal) -> bool {
        match self {
            Self::Public => true,
            Self::PublicWrite | Self::Write => who.scopes.permits(Scope::Write),
            Self::Own | Self::OwnOrTicket => who.scopes.permits(Scope::Read),
            Self::Read => who.scopes.permits(Scope::Read) && who.owner().is_none(),
            Self::Replay => who.scopes.permits(Scope::Replay),
            Self::Admin => who.scopes.permits(Scope::Admin),
            Self::Operator => who.is_operator(),
        }
    }
}

/// By path and method.
type Declared = BTreeMap<(String, String), Access>;

static DECLARED: Mutex<Declared> = Mutex::new(BTreeMap::new());

/// Notes a route that this process serves.
pub(crate) fn declare(method: &Method, path: &str, access: Access) {
    let mut declared = DECLARED.lock().unwrap_or_else(PoisonError::into_inner);
    declared.insert((path.to_owned(), method.to_string()), access);
}

/// All routes that this process serves, as `GET /health`: by path, then by method.
pub(crate) fn declared() -> Vec<String> {
    let declared = DECLARED.lock().unwrap_or_else(PoisonError::into_inner);
    let routes = declared.keys();
    routes
        .map(|(path, method)| format!("{method} {path}"))
        .collect()
}

/// A route with its rule.
#[derive(Serialize)]
struct RouteRule<'a> {
    /// Such as `POST`; `GET` is HEAD too.
    method: &'a str,
    /// Its path, with `{…}` where a value stands.
    path: &'a str,
    /// What it wants.
    access: Access,
}

/// GET /api/v1/admin/routes: all routes that this process serves, those the router was made of.
pub(crate) async fn routes() -> HttpResponse {
    let declared = DECLARED.lock().unwrap_or_else(PoisonError::into_inner);
    let rules = declared.iter().map(|((path, method), access)| RouteRule {
        method,
        path,
        access: *access,
    });
    HttpResponse::Ok().json(rules.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use domain::TenantId;
    use domain::access::Scopes;

    use super::*;

    #[test]
    fn each_rule_admits_whom_it_says() {
        use Access::{Admin, Operator, Own, Public, PublicWrite, Read, Replay, Write};
        let who = |words: &[&'static str], user: Option<&str>, tenant: &str| Principal {
            tenant: TenantId::parse(tenant).unwrap(),
            user: user.map(str::to_owned),
            scopes: Scopes::parse(words.iter().copied()).unwrap(),
            life: None,
        };
        let all = [
            Public,
            PublicWrite,
            Write,
            Own,
            Read,
            Replay,
            Admin,
            Operator,
        ];
        for (who, admitted) in [
            (who(&[], None, "default"), &[Public][..]),
            (
                who(&["write"], None, "default"),
                &[Public, PublicWrite, Write],
            ),
            (who(&["read"], None, "a"), &[Public, Own, Read]),
            (who(&["read"], Some("u"), "a"), &[Public, Own]),
            (who(&["replay"], Some("u"), "a"), &[Public, Replay]),
            (who(&["admin"], Some("u"), "a"), &all[..7]),
            (who(&["admin"], None, "default"), &all),
        ] {
            let is: Vec<_> = all.into_iter().filter(|rule| rule.admits(&who)).collect();
            assert_eq!(is, admitted, "{who:?}");
        }
    }
}
