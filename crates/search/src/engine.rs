//! The port: put events into an index, find them, remove them.

use std::future::Future;
use std::pin::Pin;

use store::search::{Found, Indexed, Question, Removal};
use time::OffsetDateTime;
use tokio_postgres::{Client, Transaction};

/// A future as the port returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SearchError>> + Send + 'a>>;

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// PostgreSQL.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The engine beside it does not answer, or not now: trying again may help.
    #[error("the search engine is unavailable: {0}")]
    Unavailable(String),
    /// The engine beside it refuses: its settings or ours are wrong.
    #[error("the search engine refuses: {0}")]
    Refused(String),
}

/// An event that the engine refuses, by its place in what was given, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place.
    pub at: usize,
    /// The engine's words.
    pub why: String,
}

/// An index of all tenants' events.
pub trait Engine: Send + Sync + 'static {
    /// Its name in `search_progress`.
    fn name(&self) -> &'static str;

    /// Makes ready what it is put into.
    ///
    /// # Errors
    /// The engine does not answer, or refuses.
    fn prepare(&self) -> BoxFuture<'_, ()>;

    /// Puts events in, once however often it is called with the same or an older generation. `tx` is
    /// the transaction they are read in.
    ///
    /// # Errors
    /// The engine does not answer: some of them may be in.
    fn index<'a>(
        &'a self,
        tx: &'a Transaction<'a>,
        events: &'a [Indexed<'a>],
        generation: i64,
    ) -> BoxFuture<'a, Vec<Refused>>;

    /// The events that a question is about, the newest first.
    ///
    /// # Errors
    /// The engine does not answer, or PostgreSQL, whose connection `client` is.
    fn find<'a>(&'a self, client: &'a Client, question: &'a Question) -> BoxFuture<'a, Found>;

    /// Removes these, and what happened before `kept_from`, from an engine that does not do so together
    /// with the events.
    ///
    /// # Errors
    /// The engine does not answer.
    fn remove<'a>(
        &'a self,
        removals: &'a [Removal],
        kept_from: Option<OffsetDateTime>,
    ) -> BoxFuture<'a, ()>;

    /// Removes what is of an older generation.
    ///
    /// # Errors
    /// The engine does not answer.
    fn sweep<'a>(&'a self, client: &'a Client, generation: i64) -> BoxFuture<'a, ()>;
}
