//! Brings the schema up to date.

use std::time::Duration;

use crate::error::Error;
use crate::log_throttle::LogThrottle;
use crate::pool::Database;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Key of the advisory lock under which migrations run; refinery takes none itself.
const LOCK: i64 = 0x7469_6465_6761_7465;

/// Between two attempts of [`ready`].
const RETRY: Duration = Duration::from_secs(1);

/// How long [`run`] waits while another process is at it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the schema if it is absent and applies what is missing. Safe to call from several
/// processes at once. Returns the names of the migrations applied now.
///
/// # Errors
/// The database cannot be reached, a migration fails, or another process has been at it for half a
/// minute.
pub async fn run(db: &Database) -> Result<Vec<String>, Error> {
    run_within(db, TIMEOUT).await
}

/// Returns when the schema is there: brings it up to date if `migrates`, else waits for another
/// process to do so. Tries until it works, and logs why it does not.
pub async fn ready(db: &Database, migrates: bool) {
    let mut throttle = LogThrottle::default();
    loop {
        let current = if migrates {
            run(db).await.map(|applied| {
                tracing::info!(?applied, "the schema is up to date");
                true
            })
        } else {
            applied(db).await.map(|version| version >= latest())
        };
        match current {
            Ok(true) => return,
            Ok(false) if throttle.allows() => tracing::warn!(
                "waiting for the schema: apply the migrations, or set MIGRATE_ON_START=true"
            ),
            Err(error) if throttle.allows() => {
                tracing::warn!(error = %error, "the schema could not be brought up to date yet");
            }
            _ => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// The same, but waits at most `limit` for another process that migrates.
///
/// # Errors
/// As [`run`].
pub async fn run_within(db: &Database, limit: Duration) -> Result<Vec<String>, Error> {
    let mut client = db.connect().await?;
    // One that hangs must not make the others wait for ever, without a word.
    let setting = format!("set lock_timeout = '{}ms'", limit.as_millis().max(1));
    client.batch_execute(&setting).await?;
    let locked = client.execute("select pg_advisory_lock($1)", &[&LOCK]);
    if let Err(error) = locked.await.map_err(Error::from) {
        if error.is_lock_timeout() {
            return Err(Error::Migration(held_by(&client, limit).await?));
        }
        return Err(error);
    }
    client.batch_execute("reset lock_timeout").await?;
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

/// Describes who has the lock, and what an operator can do about it.
async fn held_by(client: &tokio_postgres::Client, limit: Duration) -> Result<String, Error> {
    let holder = client
        .query_opt(
            "select pid, application_name from pg_locks join pg_stat_activity a using (pid) \
             where locktype = 'advisory' and granted and objsubid = 1 \
             and pg_locks.database = a.datid and a.datname = current_database() \
             and (classid::int8 << 32 | objid::int8) = $1",
            &[&LOCK],
        )
        .await?;
    let seconds = limit.as_secs();
    Ok(match holder {
        Some(row) => {
            let (pid, name): (i32, &str) = (row.get(0), row.get(1));
            format!(
                "another process ({name}, server process {pid}) has been at it for {seconds} s; if \
                 it hangs, end it with select pg_terminate_backend({pid})"
            )
        }
        None => format!("another process was at it for {seconds} s"),
    })
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
            "select to_regclass('refinery_schema_history') is not null, current_setting('search_path')",
            &[],
        )
        .await?;
    if row.get::<_, &str>(1) != format!("{}, public", db.schema()) {
        return Err(Error::Pool(
            "the server does not keep a session's settings: a pooler must be in session mode"
                .to_owned(),
        ));
    }
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
