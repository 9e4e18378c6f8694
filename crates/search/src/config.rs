//! Which engine.

use std::sync::Arc;

use config::{Env, Secret};

use crate::engine::{Engine, SearchError};
use crate::opensearch::OpenSearch;
use crate::postgres::Postgres;

/// What events are searched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: no index is kept.
    Off,
    /// PostgreSQL.
    Postgres,
    /// OpenSearch or Elasticsearch.
    OpenSearch,
}

/// How events are searched.
#[derive(Debug, Clone)]
pub struct SearchConfig {
    /// With what.
    pub kind: Kind,
    /// Where OpenSearch is.
    pub url: Secret,
    /// The name of the index there.
    pub index: String,
}

impl SearchConfig {
    /// Reads the environment.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        const NAME: &str = "SEARCH";
        const INDEX: &str = "OPENSEARCH_INDEX";
        let word: String = env.get(
            &[NAME],
            "postgres",
            "What events are searched with: postgres (an index beside the events), opensearch, or off. It is filled behind the storing.",
        );
        let kind = match word.as_str() {
            "off" => Kind::Off,
            "postgres" => Kind::Postgres,
            "opensearch" => Kind::OpenSearch,
            _ => {
                env.complain(NAME, &word, "postgres, opensearch or off");
                Kind::Off
            }
        };
        let url = env.get_secret(
            &["OPENSEARCH_URL"],
            "OpenSearch or Elasticsearch, with SEARCH=opensearch: `http[s]://[user:password@]host:port`.",
        );
        let config = Self {
            kind,
            url: url.unwrap_or_else(|| Secret::new("http://127.0.0.1:9200".to_owned())),
            index: env.get(&[INDEX], "tidegate-events", "The name of the index in it."),
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !config.index.starts_with(|c: char| c.is_ascii_lowercase())
            || !config.index.chars().all(plain)
        {
            env.complain(INDEX, &config.index, "a name of a-z, 0-9 and -");
        }
        if config.engine().is_err() {
            // Never the value: it may hold a password.
            env.complain("OPENSEARCH_URL", "…", "http[s]://[user:password@]host:port");
        }
        config
    }

    /// The engine; `None` if there is none.
    ///
    /// # Errors
    /// Its client refuses the settings.
    pub fn engine(&self) -> Result<Option<Arc<dyn Engine>>, SearchError> {
        Ok(match self.kind {
            Kind::Off => None,
            Kind::Postgres => Some(Arc::new(Postgres)),
            Kind::OpenSearch => Some(Arc::new(OpenSearch::new(&self.url, &self.index)?)),
        })
    }
}
