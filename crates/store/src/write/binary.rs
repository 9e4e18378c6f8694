//! PostgreSQL's binary COPY format (documentation of COPY, "Binary Format").

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use time::OffsetDateTime;
use tokio_postgres::{Statement, Transaction};

use crate::error::Error;

/// Signature, flags and length of the header's extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of the data.
pub const TRAILER: &[u8] = &[0xff, 0xff];

/// Unix time of 2000-01-01T00:00:00Z in microseconds, the zero of `timestamptz`.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

pub(super) fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(length(bytes));
    out.put_slice(bytes);
}

pub(super) fn put_null(out: &mut BytesMut) {
    out.put_i32(-1);
}

/// Field lengths are far below 2 GiB: the event limit is.
pub(super) fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}

/// Microseconds as `timestamptz` counts them.
pub(super) fn micros(at: OffsetDateTime) -> i64 {
    let unix = i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    unix.saturating_sub(POSTGRES_EPOCH)
}

pub(super) async fn send(
    tx: &Transaction<'_>,
    copy: &Statement,
    parts: impl IntoIterator<Item = Bytes>,
) -> Result<(), Error> {
    send_and(tx, copy, parts, || ()).await
}

/// The same; works something out while the server is busy with what was sent.
pub(super) async fn send_and<T>(
    tx: &Transaction<'_>,
    copy: &Statement,
    parts: impl IntoIterator<Item = Bytes>,
    meanwhile: impl FnOnce() -> T,
) -> Result<T, Error> {
    let sink = tx.copy_in(copy).await?;
    futures_util::pin_mut!(sink);
    for part in parts {
        sink.feed(part).await?;
    }
    let found = meanwhile();
    sink.finish().await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_year_2000() {
        assert_eq!(
            micros(time::macros::datetime!(2000-01-01 0:00:00.000001 UTC)),
            1
        );
        assert_eq!(micros(OffsetDateTime::UNIX_EPOCH), -POSTGRES_EPOCH);
    }
}
