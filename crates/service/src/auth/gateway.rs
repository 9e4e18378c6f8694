//! What a gateway says of who is asking, in headers.

use std::net::IpAddr;

use actix_web::http::header::{HeaderMap, HeaderName};
use domain::TenantId;
use ipnet::IpNet;

use super::jwt::{known_scopes, or_a_users};
use super::principal::Principal;
use super::refusal::Refusal;

/// The headers in which a gateway says whom it let in.
#[derive(Debug, Clone)]
pub struct GatewayHeaders {
    /// With the user.
    pub user: HeaderName,
    /// With the tenant.
    pub tenant: HeaderName,
    /// With scopes or roles, by commas or blanks.
    pub scopes: HeaderName,
}

/// Whom the gateway let in; `None` where it says nothing, or where it is not one of `trusted` that asks.
///
/// # Errors
/// A header is there twice (one of them may be the client's own), or cannot be read.
pub fn read(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    names: &GatewayHeaders,
    trusted: &[IpNet],
) -> Result<Option<Principal>, Refusal> {
    const WRONG: Refusal = Refusal::Invalid("gateway_headers");
    if !peer.is_some_and(|peer| trusts(trusted, peer)) {
        return Ok(None);
    }
    let text = |name: &HeaderName| {
        let mut all = headers.get_all(name);
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                let text = std::str::from_utf8(value.as_bytes()).map_err(|_| WRONG)?;
                Ok(Some(text.trim()).filter(|text| !text.is_empty()))
            }
            _ => Err(WRONG),
        }
    };
    let (user, scopes) = (text(&names.user)?, text(&names.scopes)?);
    let tenant = match text(&names.tenant)? {
        None => TenantId::default(),
        Some(name) => TenantId::parse(name).ok_or(WRONG)?,
    };
    let scopes = known_scopes(scopes.unwrap_or_default().split([',', ' ']));
    if user.is_none() && scopes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Principal {
        tenant,
        user: user.map(str::to_owned),
        scopes: or_a_users(scopes),
        life: None,
    }))
}

fn trusts(trusted: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    trusted.iter().any(|net| net.contains(&peer))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn headers_are_believed_from_the_gateway_alone_and_once() {
        let names = GatewayHeaders {
            user: HeaderName::from_static("x-user-id"),
            tenant: HeaderName::from_static("x-tenant-id"),
            scopes: HeaderName::from_static("x-scopes"),
        };
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let ask = |headers: &[(&str, &str)], peer: &str| {
            let mut request = TestRequest::default();
            for header in headers {
                request = request.append_header(*header);
            }
            let request = request.to_http_request();
            read(request.headers(), peer.parse().ok(), &names, &trusted)
        };
        let user = [("x-user-id", "u-1"), ("x-tenant-id", "acme")];
        let who = ask(&user, "10.1.2.3").unwrap().unwrap();
        assert_eq!((who.tenant.as_str(), who.owner()), ("acme", Some("u-1")));
        assert_eq!(who.scopes.words(), ["write", "read"]);
        assert!(ask(&user, "::ffff:10.1.2.3").unwrap().is_some());
        for stranger in ["11.0.0.1", "127.0.0.1", "::1", ""] {
            assert_eq!(ask(&user, stranger), Ok(None), "{stranger}");
        }
        let service = [("x-scopes", "read, admin")];
        assert_eq!(ask(&service, "10.0.0.1").unwrap().unwrap().owner(), None);
        assert_eq!(ask(&[("x-tenant-id", "acme")], "10.0.0.1"), Ok(None));
        for wrong in [
            &[("x-user-id", "u-1"), ("x-user-id", "admin")][..],
            &[("x-user-id", "u-1"), ("x-tenant-id", "../a")],
        ] {
            let refused = ask(wrong, "10.0.0.1");
            assert_eq!(refused, Err(Refusal::Invalid("gateway_headers")));
        }
    }
}
