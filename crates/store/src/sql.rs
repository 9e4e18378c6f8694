//! Statements composed of fixed fragments; whatever a client sent is bound, never spliced.

use std::fmt;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, RowStream};

use crate::error::Error;

/// A statement and its parameters. It is sent unnamed, in one round trip, and planned for the very
/// values it carries: partial indexes and partitions are chosen by them.
#[derive(Default)]
pub struct Sql {
    text: String,
    params: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Sql {
    pub(crate) fn new(text: &'static str) -> Self {
        Self {
            text: text.to_owned(),
            params: Vec::new(),
        }
    }

    /// Appends a fragment. Only literals can be appended.
    pub(crate) fn push(&mut self, fragment: &'static str) -> &mut Self {
        self.text.push_str(fragment);
        self
    }

    /// Appends a parameter: its `$n`, and its value beside the text.
    pub(crate) fn bind(
        &mut self,
        value: impl ToSql + Sync + Send + 'static,
        of: Type,
    ) -> &mut Self {
        self.params.push((Box::new(value), of));
        self.text.push('$');
        self.text.push_str(&self.params.len().to_string());
        self
    }

    /// The text, with `$1`, `$2`, … for the parameters.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parameters with their types.
    #[must_use]
    pub fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.params
            .iter()
            .map(|(value, of)| (value.as_ref() as &(dyn ToSql + Sync), of.clone()))
            .collect()
    }

    pub(crate) async fn rows(&self, client: &Client) -> Result<Vec<Row>, Error> {
        Ok(client.query_typed(&self.text, &self.params()).await?)
    }

    pub(crate) async fn row(&self, client: &Client) -> Result<Row, Error> {
        Ok(client.query_typed_one(&self.text, &self.params()).await?)
    }

    /// The rows one by one: the connection stops reading while nobody takes them.
    pub(crate) async fn stream(&self, client: &Client) -> Result<RowStream, Error> {
        Ok(client.query_typed_raw(&self.text, self.params()).await?)
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").field("text", &self.text).finish()
    }
}
