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
            Self::Pool(_) | Self::Migration(_) => Kind::Transient,
            Self::Database(error) => match error.code().map(SqlState::code) {
                Some("P0001") => Kind::Data,
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
