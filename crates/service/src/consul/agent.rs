//! The HTTP API of Consul's agent, as far as it is used.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::config::ConsulConfig;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A service to register.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Service {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) tags: Vec<&'static str>,
    /// Empty: that of the agent.
    pub(super) address: String,
    pub(super) port: u16,
    /// At most 64 pairs, a value of at most 512 bytes.
    pub(super) meta: BTreeMap<String, String>,
    pub(super) check: HttpCheck,
}

/// What the agent looks at.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HttpCheck {
    #[serde(rename = "HTTP")]
    pub(super) http: String,
    pub(super) interval: &'static str,
    pub(super) timeout: &'static str,
    pub(super) deregister_critical_service_after: &'static str,
}

/// An instance of a service that passes its checks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: Node,
    service: Place,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Place {
    #[serde(default)]
    address: String,
    port: u16,
}

/// The agent. Errors are words for a person.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    client: reqwest::Client,
    base: Url,
    token: Option<config::Secret>,
}

impl Agent {
    /// Does not connect.
    pub(super) fn new(config: &ConsulConfig) -> Result<Self, String> {
        let scheme = if config.tls { "https" } else { "http" };
        let base = format!("{scheme}://{}:{}/v1/", config.host, config.port);
        Ok(Self {
            client: reqwest::Client::builder()
                .timeout(TIMEOUT)
                .build()
                .map_err(|error| error.to_string())?,
            base: base
                .parse()
                .map_err(|_| format!("CONSUL_HOST={:?} is no host", config.host))?,
            token: config.token.clone(),
        })
    }

    /// Registers a service, or what has changed of it; its old checks go.
    pub(super) async fn register(&self, service: &Service) -> Result<(), String> {
        let mut url = self.url(&["agent", "service", "register"]);
        url.set_query(Some("replace-existing-checks=true"));
        self.ask(self.client.put(url).json(service)).await?;
        Ok(())
    }

    /// Removes it; that it is not there is no error.
    pub(super) async fn deregister(&self, id: &str) -> Result<(), String> {
        let url = self.url(&["agent", "service", "deregister", id]);
        self.ask(self.client.put(url)).await?;
        Ok(())
    }

    /// Whether the agent has a service of this id.
    pub(super) async fn knows(&self, id: &str) -> Result<bool, String> {
        let url = self.url(&["agent", "service", id]);
        Ok(self.ask(self.client.get(url)).await?.is_some())
    }

    /// `host:port` of every instance of a service that passes its checks.
    pub(super) async fn healthy(
        &self,
        name: &str,
        tag: Option<&str>,
    ) -> Result<Vec<(String, u16)>, String> {
        let mut url = self.url(&["health", "service", name]);
        url.query_pairs_mut().append_pair("passing", "true");
        if let Some(tag) = tag {
            url.query_pairs_mut().append_pair("tag", tag);
        }
        let Some(answer) = self.ask(self.client.get(url)).await? else {
            return Ok(vec![]);
        };
        let instances: Vec<Instance> = answer
            .json()
            .await
            .map_err(|error| format!("no answer of Consul: {error}"))?;
        let address = |Instance { node, service }| {
            let own = !service.address.is_empty();
            let host = if own { service.address } else { node.address };
            (host, service.port)
        };
        Ok(instances.into_iter().map(address).collect())
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The good answer; `None` is 404.
    async fn ask(&self, request: RequestBuilder) -> Result<Option<Response>, String> {
        let request = match &self.token {
            Some(token) => request.header("X-Consul-Token", token.expose()),
            None => request,
        };
        let answer = request.send().await.map_err(|error| {
            let mut innermost: &dyn std::error::Error = &error;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            format!("no answer: {innermost}")
        })?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            status => {
                let text = answer.text().await.unwrap_or_default();
                Err(format!("{status}: {}", text.trim()))
            }
        }
    }
}
