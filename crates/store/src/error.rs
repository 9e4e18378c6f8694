//! What went wrong in the database, and whether trying again can help.

use tokio_postgres::error::SqlState;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database or the connection to it.
    #[error("database: {}", describe(.0))]
    Database(tokio_postgres::Error),
    /// No connection could be had from the pool.
    #[error("no database connection: {0}")]
    Pool(String),
    /// The schema could not be brought up to date.
    #[error("migration: {0}")]
    Migration(String),
    /// Another transaction has stored one of the same events, or moved the position of one of the
    /// same partitions, since this batch was read.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The rules have changed since the events were matched with them.
    #[error("the rules have changed")]
    Rules,
    /// A row holds what this program did not write.
    #[error("a row cannot be read: {0}")]
    Stored(String),
}

/// What to do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wait and try the same again: connection, shutdown, deadlock, full disk, missing schema.
    Transient,
    /// This very data cannot be stored; the rest can.
    Data,
    /// Another writer was faster with an event or with the whole partition: check again, at once.
    Conflict,
    /// Match the events again, with the rules as they are now.
    Rules,
}

impl Error {
    /// Whether to wait, to bisect or to check again.
    ///
    /// Only the classes that speak of values count as data errors: 22 (data exception), 23
    /// (integrity constraint), 54 (program limit exceeded) and P0001 (raised by a trigger).
    /// Everything else, a missing table included, is the operator's to mend, and waits.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Conflict(_) => Kind::Conflict,
            Self::Rules => Kind::Rules,
            Self::Pool(_) | Self::Migration(_) | Self::Stored(_) => Kind::Transient,
            Self::Database(error) => match error.code().map(SqlState::code) {
                Some("P0001") => Kind::Data,
                // No row is at fault: a partition was attached while the statement ran, and the row
                // belongs there now.
                Some("23514") if is_partition_moved(error) => Kind::Transient,
                Some(code)
                    if ["22", "23", "54"]
                        .iter()
                        .any(|class| code.starts_with(class)) =>
                {
                    Kind::Data
                }
                _ => Kind::Transient,
            },
        }
    }
}

impl Error {
    /// Whether a lock could not be had in time: another session holds it for long.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Database(error)
            if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// Whether the connection can no longer do its work although it is open, so that only another
    /// one helps: a table was altered under its prepared statements, a pooler forgot them, or the
    /// server has become a standby.
    #[must_use]
    pub fn is_stale_connection(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        let Some(db) = error.as_db_error() else {
            // The client's own words: the connection is gone, or what came over it made no sense.
            return true;
        };
        match db.code().code() {
            // "cached plan must not change result type" has no code of its own.
            "0A000" => db.message().contains("cached plan"),
            // Read-only transaction, unknown statement, and the server that leaves.
            "25006" | "26000" | "57P01" | "57P02" | "57P03" => true,
            _ => false,
        }
    }
}

/// A violated partition bound has no constraint's name, unlike a check.
fn is_partition_moved(error: &tokio_postgres::Error) -> bool {
    let db = error.as_db_error();
    db.is_some_and(|db| db.constraint().is_none())
}

/// The server's own words and code: tokio-postgres prints only "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

// By hand: as a source it would be printed a second time.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => Self::Database(error),
            other => Self::Pool(other.to_string()),
        }
    }
}
