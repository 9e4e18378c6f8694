//! Reading partitions, each behind a cursor.

use tokio_postgres::{Client, Statement};

use super::headers::unpack_headers;
use super::partition::LogPosition;
use crate::error::Error;
use crate::pool::Database;

/// What a row costs beside its bytes, in the reckoning of [`Cursor::bytes`].
const ROW_OVERHEAD: i32 = 512;

/// The rows of each partition up to a number and a sum of bytes, but always the first. Sizes are
/// known without fetching what is stored out of line.
#[doc(hidden)]
pub const READ: &str = "select r.partition, r.id, r.topic, r.key, r.headers, r.payload, r.at, \
        r.number < r.found or r.found = $4::int8 as more \
    from unnest($1::int2[], $2::int8[], $3::int8[]) c(partition, start, bytes) \
    cross join lateral (select x.*, sum(x.size) over (order by x.id) as total, \
            row_number() over (order by x.id) as number, count(x.id) over () as found from ( \
        select l.partition, l.id, l.topic, l.key, l.headers, l.payload, \
            (extract(epoch from l.created_at) * 1000)::int8 as at, \
            ($5::int4 + octet_length(l.headers) + coalesce(octet_length(l.key), 0) \
                + coalesce(octet_length(l.payload), 0)) as size \
        from event_log l where l.partition = c.partition and l.id >= c.start \
        order by l.id limit $4::int8 \
    ) x) r where r.total <= c.bytes or r.total = r.size";

/// From where a partition is to be read, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The partition, and the lowest offset that may come.
    pub from: LogPosition,
    /// How many bytes of rows may come; the first row comes in any case.
    pub bytes: i64,
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its position.
    pub position: LogPosition,
    /// Full topic name.
    pub topic: String,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The record's bytes.
    pub payload: Option<Vec<u8>>,
    /// When it was appended, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whether the partition may have had more after it.
    pub more: bool,
}

/// A connection that reads.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    read: Statement,
}

impl Reader {
    /// Connects.
    ///
    /// # Errors
    /// The server cannot be reached, or the schema is not there yet.
    pub async fn connect(db: &Database) -> Result<Self, Error> {
        let client = db.connect().await?;
        // The table is empty at one moment and huge at the next, so statistics only mislead: the
        // index is always right.
        client
            .batch_execute(
                "set statement_timeout = '10s'; set enable_seqscan = off; \
                 set enable_bitmapscan = off; set jit = off",
            )
            .await?;
        let read = client.prepare(READ).await?;
        Ok(Self { client, read })
    }

    /// The next rows of each partition, ordered by partition and offset: of each at most `rows`, and
    /// no more bytes than its cursor allows.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn read(&self, cursors: &[Cursor], rows: i64) -> Result<Vec<Row>, Error> {
        let partitions: Vec<i16> = cursors.iter().map(|cursor| cursor.from.partition).collect();
        let from: Vec<i64> = cursors.iter().map(|cursor| cursor.from.offset).collect();
        let bytes: Vec<i64> = cursors.iter().map(|cursor| cursor.bytes).collect();
        let found = self
            .client
            .query(
                &self.read,
                &[&partitions, &from, &bytes, &rows, &ROW_OVERHEAD],
            )
            .await?;
        let row = |row: &tokio_postgres::Row| -> Result<Row, tokio_postgres::Error> {
            Ok(Row {
                position: LogPosition {
                    partition: row.try_get(0)?,
                    offset: row.try_get(1)?,
                },
                topic: row.try_get(2)?,
                key: row.try_get(3)?,
                headers: unpack_headers(row.try_get(4)?),
                payload: row.try_get(5)?,
                at_ms: row.try_get(6)?,
                more: row.try_get(7)?,
            })
        };
        let mut rows = found.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        // They come so already, but only an `order by` would promise it, and would sort on disk.
        rows.sort_by_key(|row| row.position);
        Ok(rows)
    }
}
