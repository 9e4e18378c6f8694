//! Talking to a running instance.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use reqwest::Url;

/// Which instance.
#[derive(Debug, Clone, Args)]
pub(crate) struct Instance {
    /// Where Tidegate answers: `tidegate dev`, `tidegate serve`, or the proxy of the split shape
    #[arg(
        long,
        env = "TIDEGATE_URL",
        default_value = "http://127.0.0.1:8208",
        value_name = "URL"
    )]
    url: String,
}

impl Instance {
    /// The address of a path of it.
    ///
    /// # Errors
    /// The URL is none of HTTP.
    pub(crate) fn at(&self, path: &str) -> anyhow::Result<Url> {
        let text = if self.url.contains("://") {
            self.url.clone()
        } else {
            format!("http://{}", self.url)
        };
        let base: Url = text
            .parse()
            .with_context(|| format!("--url {:?} is no URL", self.url))?;
        if !["http", "https"].contains(&base.scheme()) || !base.has_host() {
            bail!(
                "--url {:?} must be an http or https URL such as http://127.0.0.1:8208",
                self.url
            );
        }
        let joined = format!("{}{path}", base.as_str().trim_end_matches('/'));
        joined
            .parse()
            .with_context(|| format!("{joined:?} is no URL"))
    }

    /// As it was given.
    pub(crate) fn shown(&self) -> &str {
        self.url.trim_end_matches('/')
    }
}

/// A client that gives up on an address that does not answer.
///
/// # Errors
/// The TLS library refuses.
pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    Ok(builder().timeout(Duration::from_secs(60)).build()?)
}

/// The same without a limit on the whole answer, for streams.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
}

/// About a page of somebody else's.
pub(crate) const STRANGER: &str = "what answers there is not Tidegate";

/// The `detail` of a problem; a page made for people is not repeated, of another text the first
/// line is.
pub(crate) fn detail(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        detail: String,
    }
    serde_json::from_str::<Body>(text).map_or_else(
        |_| match text.trim().lines().next() {
            Some(line) if !line.starts_with('<') => line.chars().take(200).collect(),
            _ => STRANGER.to_owned(),
        },
        |problem| problem.detail,
    )
}

/// Why a request got no answer, in few words.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Result<String, String> {
        let instance = Instance {
            url: url.to_owned(),
        };
        instance
            .at("/ready")
            .map(|url| url.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn somebody_else_s_page_is_not_repeated() {
        assert_eq!(detail(r#"{"detail":"no such user"}"#), "no such user");
        assert_eq!(detail("too busy\nreally"), "too busy");
        assert_eq!(detail("<!doctype html>\n<p>hello"), STRANGER);
    }

    #[test]
    fn addresses_are_forgiving_within_reason() {
        assert_eq!(at("localhost:1").as_deref(), Ok("http://localhost:1/ready"));
        assert_eq!(
            at("https://a.example/base/").as_deref(),
            Ok("https://a.example/base/ready")
        );
        for wrong in ["ftp://a", "", "http://", "::"] {
            assert!(at(wrong).unwrap_err().contains("--url"), "{wrong}");
        }
    }
}
