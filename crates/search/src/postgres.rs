//! The index on PostgreSQL, beside the events.

use store::search::{self, Found, Indexed, Question, Removal};
use time::OffsetDateTime;
use tokio_postgres::{Client, Transaction};

use crate::engine::{BoxFuture, Engine, Refused};

/// The engine that needs nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Postgres;

impl Engine for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn prepare(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn index<'a>(
        &'a self,
        tx: &'a Transaction<'a>,
        events: &'a [Indexed<'a>],
        generation: i64,
    ) -> BoxFuture<'a, Vec<Refused>> {
        Box::pin(async move {
            search::index(tx, events, generation).await?;
            Ok(Vec::new())
        })
    }

    fn find<'a>(&'a self, client: &'a Client, question: &'a Question) -> BoxFuture<'a, Found> {
        Box::pin(async move { Ok(search::find(client, question).await?) })
    }

    /// It has neither any more: they go with the events.
    fn remove<'a>(&'a self, _: &'a [Removal], _: Option<OffsetDateTime>) -> BoxFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn sweep<'a>(&'a self, client: &'a Client, generation: i64) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            search::remove_before_generation(client, generation).await?;
            Ok(())
        })
    }
}
