//! The index in OpenSearch or Elasticsearch, by the API both have.
//!
//! A document is an event's words, not the event: what is found is read from PostgreSQL. It has the event's
//! id, and the number of the indexing as its version, so that writing it again does no harm.

mod document;
mod question;

use std::time::Duration;

use config::Secret;
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use store::event_reads::Position;
use store::search::{Found, Indexed, Question, Removal};
use time::OffsetDateTime;
use tokio_postgres::{Client, Transaction};

use crate::engine::{BoxFuture, Engine, Refused, SearchError};
use document::{id, mappings, micros, written};

/// How long the server may take for an answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// An index on a server.
#[derive(Debug)]
pub struct OpenSearch {
    client: reqwest::Client,
    url: Url,
    index: String,
}

impl OpenSearch {
    /// The index of that name on that server; connects to nothing yet. The URL may have a user and a password.
    ///
    /// # Errors
    /// It is no URL of HTTP, or the TLS library cannot be used.
    pub fn new(url: &Secret, index: &str) -> Result<Self, SearchError> {
        let wrong =
            || SearchError::Refused("OPENSEARCH_URL: expected http[s]://host:port".to_owned());
        let mut url: Url = url.expose().parse().map_err(|_| wrong())?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err(wrong());
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let client = reqwest::Client::builder()
            .timeout(LIMIT)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| SearchError::Refused(error.to_string()))?;
        Ok(Self {
            client,
            url,
            index: index.to_owned(),
        })
    }

    /// Sends a request; status and JSON of the answer.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, String)>,
    ) -> Result<(StatusCode, Value), SearchError> {
        let url = self.url.join(path);
        let url = url.map_err(|error| SearchError::Refused(error.to_string()))?;
        let mut request = self.client.request(method, url);
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body);
        }
        // Never the URL: it may have a password.
        let down =
            |error: reqwest::Error| SearchError::Unavailable(error.without_url().to_string());
        let mut answer = request.send().await.map_err(down)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(more) = answer.chunk().await.map_err(down)? {
            bytes.extend_from_slice(&more);
            if bytes.len() > MAX_ANSWER {
                return Err(SearchError::Refused("an answer without end".to_owned()));
            }
        }
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok((status, body))
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> Result<Value, SearchError> {
        let body = Some(("application/json", body.to_string()));
        let (status, answer) = self.call(method, path, body).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(refused(status, &answer))
    }

    async fn delete(&self, query: Value) -> Result<(), SearchError> {
        let path = format!(
            "{}/_delete_by_query?conflicts=proceed&refresh=true",
            self.index
        );
        self.json(Method::POST, &path, json!({"query": query}))
            .await?;
        Ok(())
    }

    /// Deletes only what can be seen, so what was written before is made so.
    async fn refresh(&self) -> Result<(), SearchError> {
        let path = format!("{}/_refresh", self.index);
        self.json(Method::POST, &path, json!({})).await?;
        Ok(())
    }
}

impl Engine for OpenSearch {
    fn name(&self) -> &'static str {
        "opensearch"
    }

    fn prepare(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let template = json!({"index_patterns": [self.index], "template": mappings()});
            let path = format!("_index_template/{}", self.index);
            self.json(Method::PUT, &path, template).await?;
            match self.json(Method::PUT, &self.index, json!({})).await {
                Err(SearchError::Refused(why)) if why.contains("resource_already_exists") => Ok(()),
                other => other.map(drop),
            }
        })
    }

    fn index<'a>(
        &'a self,
        _: &'a Transaction<'a>,
        events: &'a [Indexed<'a>],
        generation: i64,
    ) -> BoxFuture<'a, Vec<Refused>> {
        Box::pin(async move {
            let mut body = String::new();
            for event in events {
                let (action, document) = written(event, generation);
                body.push_str(&action.to_string());
                body.push('\n');
                body.push_str(&document.to_string());
                body.push('\n');
            }
            let path = format!("{}/_bulk", self.index);
            let body = Some(("application/x-ndjson", body));
            let (status, answer) = self.call(Method::POST, &path, body).await?;
            if !status.is_success() {
                return Err(refused(status, &answer));
            }
            let items = answer["items"].as_array().map_or(&[][..], Vec::as_slice);
            if items.len() != events.len() {
                let why = "an answer to _bulk without every item".to_owned();
                return Err(SearchError::Unavailable(why));
            }
            let mut refused = Vec::new();
            for (at, item) in items.iter().enumerate() {
                let item = &item["index"];
                match item["status"].as_u64().unwrap_or(0) {
                    // 409: a newer generation is there.
                    200..=299 | 409 => {}
                    400 | 413 => refused.push(Refused {
                        at,
                        why: reason(&item["error"]),
                    }),
                    // Too busy, blocked for writing, or the index is gone: not the event's fault.
                    _ => return Err(SearchError::Unavailable(reason(&item["error"]))),
                }
            }
            Ok(refused)
        })
    }

    fn find<'a>(&'a self, _: &'a Client, question: &'a Question) -> BoxFuture<'a, Found> {
        Box::pin(async move {
            let path = format!("{}/_search", self.index);
            let answer = self
                .json(Method::POST, &path, question::search(question))
                .await?;
            let hits = answer["hits"]["hits"].as_array();
            let hits = hits.map_or(&[][..], Vec::as_slice).iter();
            let position = |hit: &Value| {
                let micros = i128::from(hit["sort"][0].as_i64()?);
                Some(Position {
                    timestamp: OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).ok()?,
                    event_id: hit["sort"][1].as_str()?.parse().ok()?,
                })
            };
            let found: Option<Found> = hits.map(position).collect();
            found.ok_or_else(|| SearchError::Refused("an answer of an unknown form".to_owned()))
        })
    }

    fn remove<'a>(
        &'a self,
        removals: &'a [Removal],
        kept_from: Option<OffsetDateTime>,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.refresh().await?;
            if !removals.is_empty() {
                let ids = removals.iter().map(|one| id(one.event_id, &one.tenant));
                let ids: Vec<String> = ids.collect();
                self.delete(json!({"ids": {"values": ids}})).await?;
            }
            if let Some(kept_from) = kept_from {
                let before = json!({"range": {"timestamp": {"lt": micros(kept_from)}}});
                self.delete(before).await?;
            }
            Ok(())
        })
    }

    fn sweep<'a>(&'a self, _: &'a Client, generation: i64) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.refresh().await?;
            self.delete(json!({"range": {"generation": {"lt": generation}}}))
                .await
        })
    }
}

/// 429 and 5xx are of the moment.
fn refused(status: StatusCode, answer: &Value) -> SearchError {
    let why = format!("{}: {}", status.as_u16(), reason(&answer["error"]));
    let passes = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    if passes {
        SearchError::Unavailable(why)
    } else {
        SearchError::Refused(why)
    }
}

/// The server's words.
fn reason(error: &Value) -> String {
    let cause = &error["root_cause"][0];
    let [kind, why] = ["type", "reason"].map(|name| {
        let text = cause[name].as_str().or(error[name].as_str());
        text.unwrap_or_default()
            .chars()
            .take(500)
            .collect::<String>()
    });
    if kind.is_empty() && why.is_empty() {
        return "no reason given".to_owned();
    }
    format!("{kind}: {why}")
}
