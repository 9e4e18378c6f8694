//! HTTP requests to a running instance.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
pub(crate) use tidegate_client::answer::{NOT_TIDEGATE, detail, reason};

/// The instance that a command asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct Instance {
    /// Address of Tidegate: `tidegate dev`, `tidegate serve`, or the proxy of the split shape
    #[arg(
        long,
        env = "TIDEGATE_URL",
        default_value = "http://127.0.0.1:8208",
        value_name = "URL"
    )]
    url: String,
}

impl Instance {
    /// The URL of a path of the instance.
    ///
    /// # Errors
    /// `--url` is not a URL of HTTP.
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

    /// The address as it was given.
    pub(crate) fn shown(&self) -> &str {
        self.url.trim_end_matches('/')
    }
}

/// Which instance a verb asks, and how it shows the answer.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) instance: Instance,
}

impl Common {
    /// The URL of what these segments name below a path of the instance.
    ///
    /// # Errors
    /// `--url` is not a URL of HTTP.
    pub(crate) fn at(&self, path: &str, segments: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.instance.at(path)?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        Ok(url)
    }
}

/// A client that waits at most 60 s for an answer.
///
/// # Errors
/// The TLS library cannot be initialised.
pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    Ok(builder().timeout(Duration::from_secs(60)).build()?)
}

/// A client without a limit on the whole answer, for streams. It sends the API key or token that is in
/// TIDEGATE_KEY: in the environment, as every program on the machine can read a command line.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    if let Some(key) = key()
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", key.trim()))
    {
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    reqwest::Client::builder()
        .default_headers(headers)
        .connect_timeout(Duration::from_secs(5))
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
}

/// The API key or token to ask with, if there is one.
pub(crate) fn key() -> Option<String> {
    let key = std::env::var("TIDEGATE_KEY").ok();
    key.filter(|key| !key.trim().is_empty())
}

/// Sends a request; returns the JSON of a good answer.
///
/// # Errors
/// Nothing answers, or the answer is a problem, whose detail is the error.
pub(crate) async fn json(request: reqwest::RequestBuilder) -> anyhow::Result<serde_json::Value> {
    let (status, text) = text(request).await?;
    if !status.is_success() {
        bail!("{}", detail(&text));
    }
    serde_json::from_str(&text).map_err(|_| anyhow::anyhow!(NOT_TIDEGATE))
}

/// Sends a request; returns status and text of whatever is answered.
///
/// # Errors
/// Nothing answers.
pub(crate) async fn text(request: reqwest::RequestBuilder) -> anyhow::Result<(StatusCode, String)> {
    let answer = async {
        let answer = request.send().await?;
        Ok((answer.status(), answer.text().await?))
    };
    let no_answer = |error: reqwest::Error| anyhow::anyhow!("no answer: {}", reason(&error));
    answer.await.map_err(no_answer)
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
