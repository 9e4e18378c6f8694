//! Who sent a frontend event (S0-24, S0-35): address, user agent, referring page.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderName, REFERER, USER_AGENT, X_FORWARDED_FOR};
use domain::field::Code;
use domain::json::{Members, ScanError, canonical};
use domain::{FieldError, Json};
use ipnet::IpNet;

/// Most bytes of a batch's own `client_info`.
pub const MAX_BYTES: usize = 4 * 1024;
/// Most bytes kept of the user agent and of the referring page, each.
const MAX_HEADER: usize = 1024;
/// `event.context.client_info` stands this much deeper on the log than in the request.
const WRAPPED: usize = 4;

/// What the server knows of the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its address: the connection's, or what a trusted proxy says.
    pub ip: Option<IpAddr>,
    /// `User-Agent`.
    pub user_agent: Option<String>,
    /// `Referer`.
    pub referer: Option<String>,
}

impl ClientInfo {
    /// Reads it from a request; `X-Forwarded-For` is believed from `trusted` proxies only.
    #[must_use]
    pub fn of(request: &HttpRequest, trusted: &[IpNet]) -> Self {
        let headers = request.headers();
        Self {
            ip: request
                .peer_addr()
                .map(|peer| client_ip(peer.ip(), headers, trusted)),
            user_agent: text(headers, &USER_AGENT),
            referer: text(headers, &REFERER),
        }
    }

    /// As an object; what is unknown is left out.
    #[must_use]
    pub fn to_json(&self) -> Json {
        self.members()
            .fold(Json::default(), |json, (key, value)| json.with(key, &value))
    }

    fn members(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("ip", self.ip.map(|ip| ip.to_string())),
            ("user_agent", self.user_agent.clone()),
            ("referer", self.referer.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }
}

/// The server's knowledge and the batch's own `client_info`, whose members win (S0-24).
///
/// # Errors
/// `raw` is no object, larger than [`MAX_BYTES`], nested too deeply, or not storable.
pub fn merged(server: &ClientInfo, raw: &str, max_depth: usize) -> Result<Json, FieldError> {
    let refuse = |code, message: String| Err(FieldError::new("", code, message));
    if !raw.starts_with('{') {
        return refuse(Code::WrongType, "must be an object".to_owned());
    }
    if raw.len() > MAX_BYTES {
        return refuse(
            Code::OutOfRange,
            format!(
                "has {} bytes, more than the limit of {MAX_BYTES}",
                raw.len()
            ),
        );
    }
    let field = |error| match error {
        ScanError::Field(field) => field,
        ScanError::Syntax { .. } => FieldError::new("", Code::BadFormat, error.to_string()),
    };
    let max_depth = max_depth.saturating_sub(WRAPPED).max(1);
    let raw = canonical(raw, max_depth).map_err(field)?;
    let mut members = Members::split(&raw).unwrap_or_default();
    let known = server.to_json();
    let known = known.members();
    for (key, value) in known.iter() {
        if !members.has(key) {
            members.set(key.to_owned(), value);
        }
    }
    Ok(Json::from(&members))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
    let end = (0..=MAX_HEADER.min(value.len()))
        .rev()
        .find(|at| value.is_char_boundary(*at))
        .unwrap_or(0);
    let text = value.get(..end).unwrap_or_default().trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The right-most address that no trusted proxy wrote about itself.
fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut client = peer.to_canonical();
    if !is_trusted(&client) {
        return client;
    }
    let values: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .filter_map(|value| value.to_str().ok())
        .collect();
    let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
    for hop in hops {
        let Some(ip) = parse_ip(hop.trim()) else {
            break;
        };
        client = ip;
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

/// An address, with or without a port, as proxies write them.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let ip = bare
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<std::net::SocketAddr>().map(|at| at.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn ip(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for value in forwarded {
            request = request.append_header((X_FORWARDED_FOR, *value));
        }
        ClientInfo::of(&request.to_http_request(), &trusted)
            .ip
            .unwrap()
            .to_string()
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        for (peer, forwarded, want) in [
            ("9.9.9.9:1", &["1.2.3.4"][..], "9.9.9.9"),
            ("10.1.1.1:1", &[], "10.1.1.1"),
            ("10.1.1.1:1", &["1.2.3.4"], "1.2.3.4"),
            ("10.1.1.1:1", &["6.6.6.6, 1.2.3.4, 10.2.2.2"], "1.2.3.4"),
            ("10.1.1.1:1", &["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            ("10.1.1.1:1", &["1.2.3.4:567"], "1.2.3.4"),
            ("10.1.1.1:1", &["[2001:db8::1]:567"], "2001:db8::1"),
            ("10.1.1.1:1", &["1.2.3.4, unknown"], "10.1.1.1"),
            ("[::ffff:10.1.1.1]:1", &["1.2.3.4"], "1.2.3.4"),
            ("[::1]:1", &["::ffff:1.2.3.4"], "1.2.3.4"),
        ] {
            assert_eq!(ip(peer, forwarded), want, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn headers_are_bounded_and_need_not_be_ascii() {
        let request = TestRequest::default()
            .insert_header((USER_AGENT, "ü".repeat(2000)))
            .to_http_request();
        let info = ClientInfo::of(&request, &[]);
        assert_eq!(info.user_agent.unwrap(), "ü".repeat(512));
        assert_eq!(info.referer, None);
    }

    #[test]
    fn what_the_batch_says_wins() {
        let server = ClientInfo {
            ip: Some("1.2.3.4".parse().unwrap()),
            user_agent: Some("a \"b\"".to_owned()),
            referer: None,
        };
        assert_eq!(
            server.to_json().as_str(),
            r#"{"ip":"1.2.3.4","user_agent":"a \"b\""}"#
        );
        let both = merged(&server, r#"{"ip":"x","browser":{"name":"y"}}"#, 32).unwrap();
        assert_eq!(
            both.to_value(),
            serde_json::json!({"ip":"x","browser":{"name":"y"},"user_agent":"a \"b\""})
        );
    }

    #[test]
    fn a_bad_one_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(28), "]".repeat(28));
        for (raw, path, code) in [
            ("[]", "", Code::WrongType),
            (
                &format!("{{\"a\":\"{}\"}}", "x".repeat(5000)),
                "",
                Code::OutOfRange,
            ),
            (r#"{"a":["\u0000"]}"#, "a[0]", Code::NotStorable),
            (&deep, "a", Code::TooDeep),
        ] {
            let error = merged(&ClientInfo::default(), raw, 32).unwrap_err();
            assert_eq!(error.code, code, "{raw}");
            assert!(error.path.starts_with(path), "{raw}: {}", error.path);
        }
    }
}
