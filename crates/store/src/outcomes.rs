//! What became of events that were accepted: one question for many of them.

use domain::TenantId;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use crate::error::Error;
use crate::pool::Database;

const READ: &str = "with asked as materialized (select * from \
        unnest($1::uuid[], $2::text[], $3::text[], $4::int8[], $5::int8[]) with ordinality \
        a(event_id, tenant_id, stream_id, after, content, n)) \
    select n, i.stream_version, null::int8, null::text, null::text, null::bytea \
    from asked join event_ids i using (event_id, tenant_id) \
    where i.content_hash is null or i.content_hash = content \
    union all \
    select n, s.version, d.id, d.reason, d.detail, d.payload \
    from asked join dead_letters d using (event_id, tenant_id) \
    left join event_streams s on s.tenant_id = asked.tenant_id and s.stream_id = asked.stream_id \
    where d.id > asked.after order by 1, 3 nulls first";

/// An event to be looked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its id.
    pub event_id: Uuid,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The stream of its aggregate.
    pub stream_id: Option<String>,
    /// Only dead letters after the one of this number.
    pub after: i64,
    /// [`domain::Event::content_hash`]: what is stored under its id with another one is not it.
    pub content: i64,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored.
    Stored {
        /// Its number in the stream of its aggregate.
        stream_version: Option<i64>,
    },
    /// A record with it is a dead letter.
    Refused {
        /// The number of the dead letter.
        dead_letter: i64,
        /// Why, a stable word.
        reason: String,
        /// Why, a sentence.
        detail: String,
        /// The bytes of that record.
        payload: Option<Vec<u8>>,
        /// Where the stream stands now.
        current_version: Option<i64>,
    },
}

/// A connection that asks.
#[derive(Debug)]
pub struct Asker {
    client: Client,
    read: Statement,
}

impl Asker {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached, or the schema is not there yet.
    pub async fn connect(db: &Database) -> Result<Self, Error> {
        let client = db.connect().await?;
        // Few keys of large tables, see `Writer::connect`.
        client
            .batch_execute(
                "set statement_timeout = '5s'; set enable_seqscan = off; \
                 set enable_hashjoin = off; set enable_mergejoin = off",
            )
            .await?;
        let read = client.prepare(READ).await?;
        Ok(Self { client, read })
    }

    /// What became of these events, as far as anything has: each with its place among the questions,
    /// stored before refused, refused in the order in which that happened.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ask(&self, asked: &[Question]) -> Result<Vec<(usize, Outcome)>, Error> {
        let ids: Vec<Uuid> = asked.iter().map(|one| one.event_id).collect();
        let tenants: Vec<&str> = asked.iter().map(|one| one.tenant_id.as_str()).collect();
        let streams: Vec<Option<&str>> = asked.iter().map(|one| one.stream_id.as_deref()).collect();
        let after: Vec<i64> = asked.iter().map(|one| one.after).collect();
        let contents: Vec<i64> = asked.iter().map(|one| one.content).collect();
        let rows = self
            .client
            .query(&self.read, &[&ids, &tenants, &streams, &after, &contents])
            .await?;
        rows.iter().map(outcome).collect()
    }
}

fn outcome(row: &Row) -> Result<(usize, Outcome), Error> {
    let n: i64 = row.try_get(0)?;
    let version = row.try_get(1)?;
    let outcome = match row.try_get::<_, Option<i64>>(2)? {
        None => Outcome::Stored {
            stream_version: version,
        },
        Some(dead_letter) => Outcome::Refused {
            dead_letter,
            reason: row.try_get(3)?,
            detail: row.try_get(4)?,
            payload: row.try_get(5)?,
            current_version: version,
        },
    };
    // Counted from 1, no more than there are questions.
    Ok((usize::try_from(n - 1).unwrap_or(usize::MAX), outcome))
}
