//! Replies of Redis as our own values.

use std::collections::HashMap;

use bytes::Bytes;
use redis::{ErrorKind, RedisError, Value, from_redis_value};

use crate::id::StreamId;
use crate::message::{Entry, Message};
use crate::resume::Kept;

/// A piece of a stream.
#[derive(Debug, Default)]
pub(crate) struct Range {
    /// The messages.
    pub(crate) entries: Vec<Entry>,
    /// Id of the first entry, which may be no message of ours.
    pub(crate) first: Option<StreamId>,
    /// Id of the last entry.
    pub(crate) last: Option<StreamId>,
    /// Whether the stream has nothing after it: fewer entries came than were requested.
    pub(crate) complete: bool,
}

/// A reply that is not what the command returns.
pub(crate) fn unexpected(what: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, what).into()
}

/// A stream id.
pub(crate) fn id(value: Value) -> Result<StreamId, RedisError> {
    let text: String = from_redis_value(value)?;
    StreamId::parse(&text).ok_or_else(|| unexpected("stream id"))
}

/// `TIME` in milliseconds.
pub(crate) fn time_ms(value: Value) -> Result<u64, RedisError> {
    let (seconds, micros): (u64, u64) = from_redis_value(value.extract_error()?)?;
    Ok(seconds * 1_000 + micros / 1_000)
}

/// Reply to `XRANGE` and `XREVRANGE` with that `COUNT`. A key that is no stream has no entries.
pub(crate) fn range(value: Value, count: usize) -> Result<Range, RedisError> {
    if matches!(&value, Value::ServerError(error) if error.code() == "WRONGTYPE") {
        return Ok(Range {
            complete: true,
            ..Range::default()
        });
    }
    let items: Vec<(Value, HashMap<Vec<u8>, Bytes>)> = from_redis_value(value.extract_error()?)?;
    let mut range = Range {
        complete: items.len() < count,
        entries: Vec::with_capacity(items.len()),
        ..Range::default()
    };
    for (place, mut fields) in items {
        let id = id(place)?;
        range.first.get_or_insert(id);
        range.last = Some(id);
        // Entries of other programs may have no data: they are no messages.
        if let Some(data) = fields.remove(&b"data"[..]) {
            let event = fields.remove(&b"event"[..]).unwrap_or_default();
            let event = String::from_utf8_lossy(&event).into_owned();
            let message = Message { event, data };
            range.entries.push(Entry { id, message });
        }
    }
    Ok(range)
}

/// Reply to `XINFO STREAM`; whether the channel `has` a message is known elsewhere. `None` if there
/// is no such stream.
pub(crate) fn kept(value: Value, has: bool) -> Result<Option<Kept>, RedisError> {
    if let Value::ServerError(error) = &value {
        let missing = error.details().is_some_and(|d| d.contains("no such key"));
        if missing || error.code() == "WRONGTYPE" {
            return Ok(None);
        }
    }
    let mut fields: HashMap<String, Value> = from_redis_value(value.extract_error()?)?;
    let first = match fields.remove("first-entry") {
        Some(Value::Array(entry)) => entry.into_iter().next().map(id).transpose()?,
        _ => None,
    };
    let last = fields.remove("last-generated-id").map(id).transpose()?;
    Ok(Some(Kept {
        first,
        trimmed: fields.get("entries-added") != fields.get("length"),
        has,
        last,
    }))
}
