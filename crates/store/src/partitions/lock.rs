//! A session that alters partitions: one at a time, and without making others wait.

use std::time::Duration;

use tokio_postgres::Client;

use crate::error::Error;
use crate::pool::Database;

/// Key of the advisory lock under which partitions are made and dropped.
const KEY: i64 = 0x7469_6465_7061_7274;

/// Longest wait for a table's lock: so long may all others queue behind it.
const WAIT: Duration = Duration::from_millis(50);

/// Connects and takes the lock, which ends with the connection; `None` while another session has it.
/// Of its own, so that its settings end with it too.
pub(super) async fn acquire(db: &Database) -> Result<Option<Client>, Error> {
    let client = db.connect().await?;
    // Few keys are looked up in large tables: no plan shall read one from end to end.
    client
        .batch_execute(&format!(
            "set lock_timeout = {}; set statement_timeout = 0; set enable_seqscan = off; \
             set enable_hashjoin = off; set enable_mergejoin = off",
            WAIT.as_millis()
        ))
        .await?;
    let row = client
        .query_one("select pg_try_advisory_lock($1)", &[&KEY])
        .await?;
    Ok(row.try_get::<_, bool>(0)?.then_some(client))
}

/// Whether this role may make partitions: create tables, and alter `events`.
pub(super) async fn may_alter(client: &Client) -> Result<bool, Error> {
    let row = client
        .query_one(
            "select has_schema_privilege(current_schema(), 'create') and pg_has_role(relowner, 'usage') \
             from pg_class where oid = 'events'::regclass",
            &[],
        )
        .await?;
    Ok(row.try_get(0)?)
}
