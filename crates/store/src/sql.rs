//! Statements composed of fixed fragments; what a client sent is bound, never spliced.

use std::fmt;
use std::pin::pin;

use domain::Json;
use futures_util::TryStreamExt;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row};

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

    /// Puts what there is between two fragments.
    pub(crate) fn surround(&mut self, before: &'static str, after: &'static str) -> &mut Self {
        self.text = format!("{before}{}{after}", self.text);
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

    /// The rows, one by one until they weigh more than `max_bytes`: what is not read stays with
    /// the server.
    pub(crate) async fn fetch<T>(
        &self,
        client: &Client,
        max_bytes: usize,
        read: fn(&Row) -> Result<T, tokio_postgres::Error>,
        weight: fn(&T) -> usize,
    ) -> Result<Fetched<T>, Error> {
        let stream = client.query_typed_raw(&self.text, self.params()).await?;
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        let mut bytes = 0;
        while let Some(row) = stream.try_next().await? {
            let item = read(&row)?;
            let more = weight(&item);
            let cut = bytes + more > max_bytes;
            if cut {
                return Ok(Fetched { rows, bytes, cut });
            }
            bytes += more;
            rows.push(item);
        }
        Ok(Fetched {
            rows,
            bytes,
            cut: false,
        })
    }
}

/// Rows of a listing, as far as they fit.
#[derive(Debug)]
pub struct Fetched<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Bytes they hold, about.
    pub bytes: usize,
    /// True if more rows of the window exist than fit into the bytes allowed.
    pub cut: bool,
}

impl<T> Default for Fetched<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            bytes: 0,
            cut: false,
        }
    }
}

/// Reads the columns of a row in their order.
pub(crate) struct Columns<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(crate) fn new(row: &'a Row) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    pub(crate) fn next<T: FromSql<'a>>(&mut self) -> Result<T, tokio_postgres::Error> {
        self.next += 1;
        self.row.try_get(self.next - 1)
    }

    /// The next column, a `jsonb` object as text; null stands for the empty object (S4-66).
    pub(crate) fn json(&mut self) -> Result<Json, tokio_postgres::Error> {
        let text: Option<String> = self.next()?;
        Ok(text.map(Json::from_stored).unwrap_or_default())
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").field("text", &self.text).finish()
    }
}
