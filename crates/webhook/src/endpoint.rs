//! The address of a receiver.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

use crate::address::Networks;

/// Longest address, in bytes.
const MAX_BYTES: usize = 2_048;

/// An http or https address that may be reached, as far as its text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Reads an address. Hosts that are written as a number, in whatever base, are addresses too.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn parse(text: &str, networks: &Networks) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("must have at most {MAX_BYTES} bytes"));
        }
        let url =
            Url::parse(text).map_err(|error| format!("must be an http or https URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("must be an http or https URL".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not have credentials in it".to_owned());
        }
        if url.fragment().is_some() {
            return Err("must not have a fragment".to_owned());
        }
        if url.port() == Some(0) {
            return Err("must not have the port 0".to_owned());
        }
        match url.host() {
            None => return Err("must have a host".to_owned()),
            Some(Host::Ipv4(address)) => networks.check(address.into())?,
            Some(Host::Ipv6(address)) => networks.check(address.into())?,
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                if name == "localhost" || name.ends_with(".localhost") {
                    networks.check(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
                }
            }
        }
        Ok(Self(url))
    }

    /// The address.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it has that host and port; where none is said, it is that of its scheme.
    #[must_use]
    pub fn is_at(&self, host: &str) -> bool {
        let place = |url: &Url| {
            (
                url.host_str().map(str::to_owned),
                url.port_or_known_default(),
            )
        };
        let there = Url::parse(&format!("{}://{host}", self.0.scheme()));
        there.is_ok_and(|there| place(&there) == place(&self.0))
    }

    /// The host where it is a name, which has to be resolved and checked.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.domain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_public_http_address_is_refused() {
        let networks = Networks::new(vec![]);
        for text in [
            "",
            "example.com/hook",
            "ftp://example.com",
            "file:///etc/passwd",
            "gopher://example.com",
            "http://",
            "https:///",
            "javascript:alert(1)",
            "data:,x",
            "unix:/run/x.sock",
            "https://user@example.com",
            "https://user:pass@example.com",
            "https://:p@example.com",
            "https://example.com/#x",
            "https://example.com:0/",
            "https://example.com:99999/",
            // Loopback, as numbers in all bases and with parts left out.
            "http://127.0.0.1",
            "http://127.1",
            "http://2130706433",
            "http://0x7f000001",
            "http://017700000001",
            "http://0x7f.0.0.1",
            "http://0177.0.0.1",
            "http://127.0.0.1.",
            "http://①②⑦.⓪.⓪.①",
            "http://127。0。0。1",
            "http://%31%32%37.0.0.1",
            "http://[::1]",
            "http://[::]",
            "http://[::ffff:127.0.0.1]",
            "http://[::ffff:7f00:1]",
            "http://[0:0:0:0:0:0:0:1]",
            "http://[::127.0.0.1]",
            "http://[64:ff9b::127.0.0.1]",
            "http://[2002:7f00:1::]",
            "http://[fe80::1]",
            "http://[fd00:ec2::254]",
            "http://localhost",
            "http://LOCALHOST.",
            "http://a.localhost:80",
            // The others.
            "http://0",
            "http://0.0.0.0",
            "http://10.0.0.1",
            "http://169.254.169.254/latest/meta-data",
            "http://0xa9fea9fe",
            "http://2852039166",
            "http://192.168.0.1",
            "http://172.16.0.1",
            "http://100.100.100.200",
            "http:10.0.0.1",
            "http:\\\\10.0.0.1\\x",
            "http://10.0.0.1\t/",
            "\u{0}http://10.0.0.1",
        ] {
            let read = Endpoint::parse(text, &networks);
            assert!(read.is_err(), "{text:?}: {read:?}");
        }
        let long = format!("https://example.com/{}", "a".repeat(MAX_BYTES));
        assert!(Endpoint::parse(&long, &networks).is_err());
    }

    #[test]
    fn public_and_allowed_addresses_are_taken() {
        let networks = Networks::new(vec!["127.0.0.0/8".parse().unwrap()]);
        for text in [
            "https://example.com/hook?a=b",
            "http://example.com:8080",
            "https://1.1.1.1/",
            "https://[2606:4700::1111]/x",
            "http://bücher.example/",
            "http://127.0.0.1:3000/hook",
            "http://localhost:3000",
        ] {
            assert!(Endpoint::parse(text, &networks).is_ok(), "{text}");
        }
        let named = |text| {
            Endpoint::parse(text, &networks)
                .unwrap()
                .name()
                .map(str::to_owned)
        };
        assert_eq!(
            named("https://Example.com/x"),
            Some("example.com".to_owned())
        );
        assert_eq!(named("https://1.1.1.1/x"), None);
        let at = |text, host| Endpoint::parse(text, &networks).unwrap().is_at(host);
        assert!(at("http://Localhost:3000/api", "localhost:3000"));
        assert!(at("https://example.com/hook", "example.com:443"));
        assert!(!at("http://localhost:3000", "localhost:3001"));
        assert!(!at("https://example.com", "other.example.com"));
    }
}
