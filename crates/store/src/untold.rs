//! Notes of partitions of the Postgres log whose events are stored and perhaps not told to listeners yet.
//! A storing transaction sets them ([`crate::write::Batch::untold`]); a [`Session`] says that their
//! owner lives, takes them back, and finds those of the dead.
//!
//! Numbers rise: what is set while notes are taken back up to a number stays.

use tokio_postgres::{Client, Statement, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::pool::Database;
use crate::timeout::heard_or_dropped;

/// What a storing transaction notes.
#[derive(Debug, Clone, Copy)]
pub struct Note<'a> {
    /// The process that will tell.
    pub owner: Uuid,
    /// Partitions that it has no note of.
    pub partitions: &'a [i16],
}

/// What came of noting.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The notes set now: partition and number.
    pub own: Vec<(i16, i64)>,
    /// Numbers of notes on the same partitions whose owner is gone: what it had to tell comes before
    /// what was stored now.
    pub abandoned: Vec<i64>,
}

/// First key of the locks of processes, held by their [`Session`]; the second is the owner's hash.
const PROCESS: &str = "hashtext('tidegate telling ' || current_schema())";
/// The same of their writers, whose last transaction may outlive the process for a moment.
const WRITER: &str = "hashtext('tidegate storing ' || current_schema())";

/// Whether somebody holds such a lock for the owner of note `n`.
fn held(class: &str) -> String {
    format!(
        "exists (select from pg_locks p where p.locktype = 'advisory' and p.objsubid = 2 \
         and p.granted and p.classid = ({class})::oid and p.objid = hashtext(n.owner::text)::oid \
         and p.database = (select oid from pg_database where datname = current_database()))"
    )
}

async fn lock(client: &Client, class: &str, owner: Uuid) -> Result<(), Error> {
    // Shared, so that one whose connection was lost does not wait for its former self.
    let sql = format!("select pg_advisory_lock_shared({class}, hashtext($1::uuid::text))");
    client.execute(&sql, &[&owner]).await?;
    Ok(())
}

pub(crate) async fn lock_writer(client: &Client, owner: Uuid) -> Result<(), Error> {
    lock(client, WRITER, owner).await
}

pub(crate) async fn prepare(client: &Client) -> Result<Statement, Error> {
    // Writers do not count as alive here: whoever removes rows of a partition has waited for the last
    // transaction of who had it before.
    let sql = format!(
        "with own as (insert into untold (partition, owner) \
             select partition, $2 from unnest($1::int2[]) partition returning partition, id) \
         select partition, id, true from own union all \
         select partition, id, false from untold n \
         where partition = any($1) and owner <> $2 and not {}",
        held(PROCESS)
    );
    Ok(client.prepare(&sql).await?)
}

/// Notes the partitions; after the rows have been removed from the log.
pub(crate) async fn note(
    tx: &Transaction<'_>,
    statement: &Statement,
    note: Note<'_>,
) -> Result<Noted, Error> {
    let mut noted = Noted::default();
    if note.partitions.is_empty() {
        return Ok(noted);
    }
    for row in tx
        .query(statement, &[&note.partitions, &note.owner])
        .await?
    {
        if row.get(2) {
            noted.own.push((row.get(0), row.get(1)));
        } else {
            noted.abandoned.push(row.get(1));
        }
    }
    Ok(noted)
}

/// Numbers of all notes of processes of which nothing is left: no [`Session`], no writer.
///
/// # Errors
/// The database does not answer, or the schema is not there yet.
pub async fn abandoned(client: &Client) -> Result<Vec<i64>, Error> {
    let sql = format!(
        "select id from untold n where not {} and not {}",
        held(PROCESS),
        held(WRITER)
    );
    let rows = client.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The connection that says that a process lives.
#[derive(Debug)]
pub struct Session {
    client: Client,
    owner: Uuid,
}

impl Session {
    /// Connects. The owner counts as alive as long as this exists and is used every few seconds.
    ///
    /// # Errors
    /// The server cannot be reached, or the schema is not there yet.
    pub async fn connect(db: &Database, owner: Uuid) -> Result<Self, Error> {
        let client = db.connect().await?;
        // As with the partitions: who is frozen is not waited for.
        heard_or_dropped(&client, "a frozen processor counts as alive").await?;
        client
            .query_one("select 'untold'::regclass::oid", &[])
            .await?;
        lock(&client, PROCESS, owner).await?;
        Ok(Self { client, owner })
    }

    /// See [`abandoned`].
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn abandoned(&self) -> Result<Vec<i64>, Error> {
        abandoned(&self.client).await
    }

    /// Takes back the owner's notes of these partitions, each up to that number.
    ///
    /// # Errors
    /// The database does not answer; they may have been taken back.
    pub async fn take_back(&self, notes: &[(i16, i64)]) -> Result<(), Error> {
        let (partitions, ids): (Vec<i16>, Vec<i64>) = notes.iter().copied().unzip();
        let sql = "delete from untold n using unnest($2::int2[], $3::int8[]) u(partition, id) \
            where n.owner = $1 and n.partition = u.partition and n.id <= u.id";
        self.client
            .execute(sql, &[&self.owner, &partitions, &ids])
            .await?;
        Ok(())
    }

    /// Takes back all of the owner's notes.
    ///
    /// # Errors
    /// The database does not answer; they may have been taken back.
    pub async fn take_back_all(&self) -> Result<(), Error> {
        let sql = "delete from untold where owner = $1";
        self.client.execute(sql, &[&self.owner]).await?;
        Ok(())
    }

    /// Removes these notes of others.
    ///
    /// # Errors
    /// The database does not answer; they may have been removed.
    pub async fn remove(&self, ids: &[i64]) -> Result<(), Error> {
        let sql = "delete from untold where id = any($1)";
        self.client.execute(sql, &[&ids]).await?;
        Ok(())
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}
