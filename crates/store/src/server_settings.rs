//! Settings of the server that are worth another value.

use crate::error::Error;
use crate::pool::Database;

/// A setting and what is better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Its name.
    pub name: String,
    /// Its value, with its unit.
    pub value: String,
    /// A better one.
    pub better: String,
    /// As it is, a crash can lose what was acknowledged.
    pub loses: bool,
}

/// What docs/operations.md tells of, as far as this server differs.
///
/// # Errors
/// The database does not answer.
pub async fn advise(db: &Database) -> Result<Vec<Advice>, Error> {
    let rows = db
        .client()
        .await?
        .query(
            "select name, current_setting(name), better, loses from pg_settings join (values \
                 ('fsync', 'on', true), ('full_page_writes', 'on', true), \
                 ('synchronous_commit', 'on', true), ('wal_compression', 'lz4', false), \
                 ('shared_buffers', '1GB', false), ('max_wal_size', '4GB', false) \
             ) v(name, better, loses) using (name) where case \
                 when name = 'wal_compression' then 'lz4' = any(enumvals) and setting not in ('lz4', 'zstd') \
                 when unit is null then setting = 'off' \
                 else pg_size_bytes(current_setting(name)) < pg_size_bytes(better) / 2 end \
             order by loses desc, name",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Advice {
                name: row.try_get(0)?,
                value: row.try_get(1)?,
                better: row.try_get(2)?,
                loses: row.try_get(3)?,
            })
        })
        .collect()
}
