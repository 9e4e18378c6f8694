//! Writers whose process is frozen.

use std::time::Duration;

use tokio_postgres::Client;

use crate::error::Error;

/// Ends sessions of writers that stopped in the middle of a COPY, longer than `after` ago, and returns
/// how many. A process frozen there keeps what its transaction has locked: the server waits for its
/// data, and none of its timeouts apply. Ask when a lock could not be had.
///
/// # Errors
/// The database does not answer.
pub async fn end_frozen(client: &Client, after: Duration) -> Result<usize, Error> {
    let rows = client
        .query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and usename = current_user \
             and pid <> pg_backend_pid() and state = 'active' and wait_event = 'ClientRead' \
             and query like 'copy event%' \
             and state_change < clock_timestamp() - $1::float8 * interval '1 second'",
            &[&after.as_secs_f64()],
        )
        .await?;
    Ok(rows.len())
}
