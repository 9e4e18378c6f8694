//! Replies of Redis as our own values.

use bytes::Bytes;
use redis::{ErrorKind, RedisError, Value};

use crate::id::StreamId;
use crate::message::{Entry, Message};
use crate::resume::Kept;

/// A piece of a stream.
#[derive(Debug, Default)]
pub(crate) struct Range {
    /// The messages.
    pub(crate) entries: Vec<Entry>,
    /// Entries read, with those that are no messages of ours.
    pub(crate) count: usize,
    /// Place of the first of them.
    pub(crate) first: Option<StreamId>,
    /// Place of the last of them.
    pub(crate) last: Option<StreamId>,
}

/// A reply that is not what the command gives.
pub(crate) fn unexpected(what: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, what).into()
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A stream id.
pub(crate) fn id(value: &Value) -> Option<StreamId> {
    StreamId::parse(text(value)?)
}

/// `TIME` in milliseconds.
pub(crate) fn time_ms(value: Value) -> Result<u64, RedisError> {
    let (seconds, micros): (u64, u64) = redis::from_redis_value(value.extract_error()?)?;
    Ok(seconds * 1_000 + micros / 1_000)
}

/// Reply to `XRANGE` and `XREVRANGE`. A key that is no stream has no entries.
pub(crate) fn range(value: Value) -> Result<Range, RedisError> {
    let items = match value {
        Value::Array(items) => items,
        Value::ServerError(error) if error.code() == "WRONGTYPE" => return Ok(Range::default()),
        Value::ServerError(error) => return Err(error.into()),
        _ => return Err(unexpected("XRANGE")),
    };
    let mut range = Range {
        entries: Vec::with_capacity(items.len()),
        count: items.len(),
        ..Range::default()
    };
    for item in items {
        let Value::Array(pair) = item else {
            return Err(unexpected("XRANGE entry"));
        };
        let Ok([place, fields]) = <[Value; 2]>::try_from(pair) else {
            return Err(unexpected("XRANGE entry"));
        };
        let id = id(&place).ok_or_else(|| unexpected("XRANGE id"))?;
        range.first.get_or_insert(id);
        range.last = Some(id);
        if let Some(message) = message(fields) {
            range.entries.push(Entry { id, message });
        }
    }
    Ok(range)
}

/// `None` if someone else's entry is no message.
fn message(fields: Value) -> Option<Message> {
    let Value::Array(fields) = fields else {
        return None;
    };
    let (mut event, mut data) = (String::new(), None);
    let mut fields = fields.into_iter();
    while let (Some(name), Some(Value::BulkString(value))) = (fields.next(), fields.next()) {
        match text(&name) {
            Some("event") => event = String::from_utf8_lossy(&value).into_owned(),
            Some("data") => data = Some(Bytes::from(value)),
            _ => {}
        }
    }
    Some(Message { event, data: data? })
}

/// Reply to `XINFO STREAM`; `has` is known elsewhere. `None` if there is no such stream.
pub(crate) fn kept(value: Value, has: bool) -> Result<Option<Kept>, RedisError> {
    let fields = match value {
        Value::Array(fields) => fields,
        Value::ServerError(error) if error.code() == "WRONGTYPE" => return Ok(None),
        Value::ServerError(error) if error.details().is_some_and(|d| d.contains("no such key")) => {
            return Ok(None);
        }
        Value::ServerError(error) => return Err(error.into()),
        _ => return Err(unexpected("XINFO STREAM")),
    };
    let (mut length, mut added, mut first) = (0, None, None);
    for pair in fields.chunks_exact(2) {
        match (text(&pair[0]), &pair[1]) {
            (Some("length"), Value::Int(n)) => length = *n,
            (Some("entries-added"), Value::Int(n)) => added = Some(*n),
            (Some("first-entry"), Value::Array(entry)) => first = entry.first().and_then(id),
            _ => {}
        }
    }
    Ok(Some(Kept {
        first,
        // Before Redis 7 it cannot be told; then the careful answer is that it was.
        trimmed: added != Some(length),
        has,
    }))
}
