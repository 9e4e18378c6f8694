//! Brings the schema up to date.

use crate::error::Error;
use crate::pool::Database;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Key of the advisory lock under which migrations run; refinery takes none itself.
const LOCK: i64 = 0x7469_6465_6761_7465;

/// Creates the schema if it is absent and applies what is missing. Safe to call from several
/// processes at once. Returns the names of the migrations applied now.
///
/// # Errors
/// The database cannot be reached, or a migration fails.
pub async fn run(db: &Database) -> Result<Vec<String>, Error> {
    let mut client = db.connect().await?;
    client
        .execute("select pg_advisory_lock($1)", &[&LOCK])
        .await?;
    // The schema's name is checked to be a plain identifier when the pool is made.
    client
        .batch_execute(&format!("create schema if not exists {}", db.schema()))
        .await?;
    let report = embedded::migrations::runner()
        .run_async(&mut client)
        .await
        .map_err(|error| Error::Migration(error.to_string()))?;
    client
        .execute("select pg_advisory_unlock($1)", &[&LOCK])
        .await?;
    Ok(report
        .applied_migrations()
        .iter()
        .map(ToString::to_string)
        .collect())
}

/// The number of the newest migration this build knows.
#[must_use]
pub fn latest() -> i32 {
    embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(|m| m.version())
        .max()
        .unwrap_or(0)
}

/// The number of the newest migration applied to the database; 0 if none is.
///
/// # Errors
/// The database cannot be reached.
pub async fn applied(db: &Database) -> Result<i32, Error> {
    let client = db.client().await?;
    let row = client
        .query_one(
            "select to_regclass('refinery_schema_history') is not null",
            &[],
        )
        .await?;
    if !row.get::<_, bool>(0) {
        return Ok(0);
    }
    let row = client
        .query_one(
            "select coalesce(max(version), 0)::int from refinery_schema_history",
            &[],
        )
        .await?;
    Ok(row.get(0))
}
