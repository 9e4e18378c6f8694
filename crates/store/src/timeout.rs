//! How long a server is waited for, and how long it waits for a silent session.

use std::future::Future;
use std::time::Duration;

use tokio_postgres::Client;

use crate::error::Error;

/// A statement, or the making of a connection, that takes longer is given up, and the connection with
/// it. Below the time after which the server takes the locks of a process it hears nothing from.
const LIMIT: Duration = Duration::from_secs(12);

/// Does the work, unless it takes longer than 12 seconds.
///
/// # Errors
/// Those of the work, and [`Error::Pool`] if it took 12 seconds.
pub async fn with_timeout<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    with_timeout_of(LIMIT, work).await
}

/// Does the work, unless it takes longer than that.
///
/// # Errors
/// Those of the work, and [`Error::Pool`] if it took longer.
pub async fn with_timeout_of<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(Error::Pool("the server does not answer".to_owned())))
}

/// Has the server end this session, whose locks show that its process lives, once it is silent for
/// 20 seconds: a frozen process loses its locks. `otherwise` is what happens on a server that cannot.
pub(crate) async fn end_if_silent(client: &Client, otherwise: &str) -> Result<(), Error> {
    client
        .batch_execute("set statement_timeout = '10s'; set lock_timeout = '5s'")
        .await?;
    // Servers before PostgreSQL 14 do not know the setting.
    if let Err(error) = client
        .batch_execute("set idle_session_timeout = '20s'")
        .await
    {
        tracing::debug!(error = %error, "{otherwise}");
    }
    Ok(())
}
