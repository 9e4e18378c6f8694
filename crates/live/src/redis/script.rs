//! The scripts: what Redis does in one step, and the format of the pointers they send.

use std::sync::LazyLock;

use bytes::Bytes;
use redis::Script;

use crate::id::StreamId;
use crate::message::{Entry, Message};

/// Larger messages are read when their pointer comes: what Redis buffers for a process that cannot
/// keep up stays small.
const MAX_INLINE_BYTES: usize = 8 * 1024;

/// A message that came with its pointer, and the id of the one before it in its channel.
#[derive(Debug)]
pub(crate) struct InlineMessage {
    pub(crate) previous: StreamId,
    pub(crate) entry: Entry,
}

impl InlineMessage {
    /// Reads what [`PUBLISH`] sends: `previous id length`, a line break, and the event of that
    /// length followed by the data. `None` for anything else, which is a pointer alone.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let end = payload.iter().position(|byte| *byte == b'\n')?;
        let (head, rest) = payload.split_at(end);
        let mut head = std::str::from_utf8(head).ok()?.split(' ');
        let previous = StreamId::parse(head.next()?)?;
        let id = StreamId::parse(head.next()?)?;
        let (event, data) = rest[1..].split_at_checked(head.next()?.parse().ok()?)?;
        let message = Message {
            event: std::str::from_utf8(event).ok()?.to_owned(),
            data: Bytes::copy_from_slice(data),
        };
        Some(Self {
            previous,
            entry: Entry { id, message },
        })
    }
}

/// How a message begins that is in no channel; a pointer begins with an id.
const TRANSIENT: &str = "transient ";

/// What is sent of a message that is in no channel: the length of the event, a line break, the event and
/// the data.
pub(crate) fn transient(message: &Message) -> Vec<u8> {
    let head = format!("{TRANSIENT}{}\n", message.event.len());
    [head.as_bytes(), message.event.as_bytes(), &message.data].concat()
}

/// Reads what [`transient`] makes; `None` for anything else.
pub(crate) fn parse_transient(payload: &[u8]) -> Option<Message> {
    let rest = payload.strip_prefix(TRANSIENT.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let length = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let (event, data) = rest[end + 1..].split_at_checked(length)?;
    Some(Message {
        event: std::str::from_utf8(event).ok()?.to_owned(),
        data: Bytes::copy_from_slice(data),
    })
}

/// Publishes one message and returns its id; nil if its position was reached before, or if its
/// channel has received its event lately; 0 if nobody listens to its channel.
///
/// `KEYS`: channel, positions, dedup key of the event, sizes, expiry, bytes, and where it is not known
/// whether anybody listens to the channel, its key for that. `ARGV`: event, data,
/// scope, version, maxlen, ttl in seconds, for how many seconds the event is remembered (0: not at
/// all), bytes that all channels may have, and with a position: partition, offset, timestamp in
/// milliseconds. The rule of positions is
/// [`HighWaterMark::advance`](crate::high_water_mark::HighWaterMark::advance); they advance over an
/// event that is not published again. Nothing is written before the first command that Redis may
/// refuse, so a refusal changes nothing. The pointer is the id alone, or what
/// [`InlineMessage::parse`] reads if there is a message before this one and this one is small.
///
/// Redis itself says how many bytes a channel takes. While all together have more than they may,
/// the largest loses the older half of its messages; the message just published stays.
pub(crate) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        r"
if KEYS[7] and redis.call('EXISTS', KEYS[7]) == 0 then return 0 end
local offset, timestamp
if ARGV[9] then
    offset, timestamp = ARGV[10], ARGV[11]
    local reached = redis.call('HGET', KEYS[2], ARGV[9])
    if reached then
        local last, latest = string.match(reached, '^(%-?%d+) (%-?%d+)$')
        if last and tonumber(offset) <= tonumber(last) then
            if tonumber(timestamp) <= tonumber(latest) then return false end
        elseif last and tonumber(timestamp) < tonumber(latest) then
            timestamp = latest
        end
    end
end
local function advance()
    if offset then redis.call('HSET', KEYS[2], ARGV[9], offset .. ' ' .. timestamp) end
end
local remember = ARGV[7] ~= '0'
if remember and redis.call('EXISTS', KEYS[3]) == 1 then
    advance()
    return false
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*',
    'event', ARGV[1], 'data', ARGV[2], 'scope', ARGV[3], 'version', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[6])
if remember then redis.call('SET', KEYS[3], 1, 'EX', ARGV[7]) end
advance()
local pointer = id
if newest and #ARGV[1] + #ARGV[2] <= {MAX_INLINE_BYTES} then
    pointer = newest[1] .. ' ' .. id .. ' ' .. #ARGV[1] .. '\n' .. ARGV[1] .. ARGV[2]
end
redis.call('PUBLISH', KEYS[1], pointer)

-- Counts what a channel takes now; returns what all take.
local function resize(key)
    local before = tonumber(redis.call('ZSCORE', KEYS[4], key) or 0)
    local now = 0
    if redis.call('TYPE', key).ok == 'stream' then
        now = redis.call('MEMORY', 'USAGE', key) or 0
        redis.call('ZADD', KEYS[4], now, key)
    else
        redis.call('ZREM', KEYS[4], key)
        redis.call('ZREM', KEYS[5], key)
    end
    return redis.call('INCRBY', KEYS[6], now - before)
end
local second = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[5], second + ARGV[6], KEYS[1])
for _, key in ipairs(redis.call('ZRANGE', KEYS[5], '-inf', second - 1, 'BYSCORE', 'LIMIT', 0, 2)) do
    resize(key)
    redis.call('ZADD', KEYS[5], 'XX', second + ARGV[6], key)
end
local all = resize(KEYS[1])
for _ = 1, 32 do
    if all <= tonumber(ARGV[8]) then break end
    local largest = redis.call('ZREVRANGE', KEYS[4], 0, 1)
    local key = largest[1]
    if key == KEYS[1] and redis.call('XLEN', key) == 1 then key = largest[2] end
    if not key then break end
    if redis.call('TYPE', key).ok == 'stream' then
        local length = redis.call('XLEN', key)
        if length == 0 then break end
        redis.call('XTRIM', key, 'MAXLEN', math.floor(length / 2))
    end
    all = resize(key)
end
return id
",
    ))
});

/// Says that channels are listened to; returns since when each has been, in milliseconds.
///
/// `KEYS`: the channels' keys for that. `ARGV`: for how many milliseconds it is true.
pub(crate) static LISTEN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = {}
for i, key in ipairs(KEYS) do
    since[i] = tonumber(redis.call('GET', key) or nil)
    if since[i] and since[i] <= now then
        redis.call('PEXPIRE', key, ARGV[1])
    else
        since[i] = now
        redis.call('SET', key, string.format('%.0f', now), 'PX', ARGV[1])
    end
end
return since
",
    )
});

/// Removes what is kept of a channel and returns how many messages there were; nothing, and -1, within the
/// millisecond of its newest message: the ids of what comes then would not be above those that are removed,
/// and listeners would take it for read. That it is listened to stays known while a listener does.
///
/// `KEYS`: channel, sizes, expiry, bytes, the channel's key for being listened to, dedup keys. `ARGV`: 1 to
/// remove it whatever the millisecond.
pub(crate) static ERASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local messages = 0
if redis.call('TYPE', KEYS[1]).ok == 'stream' then
    local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if newest and tonumber(string.match(newest[1], '^%d+')) >= now and ARGV[1] ~= '1' then return -1 end
    messages = redis.call('XLEN', KEYS[1])
    redis.call('DEL', KEYS[1])
end
local size = tonumber(redis.call('ZSCORE', KEYS[2], KEYS[1]) or 0)
redis.call('ZREM', KEYS[2], KEYS[1])
redis.call('ZREM', KEYS[3], KEYS[1])
if size > 0 then redis.call('INCRBY', KEYS[4], -size) end
if redis.call('PUBSUB', 'NUMSUB', KEYS[1])[2] == 0 then redis.call('DEL', KEYS[5]) end
for i = 6, #KEYS do redis.call('DEL', KEYS[i]) end
return messages
",
    )
});

/// Records a gap and returns its id and the time. Everything so far lies before it, everything from
/// the next millisecond on after it; several in one millisecond are one.
///
/// `KEYS`: gaps. `ARGV`: run id of the server, and why:
/// - `check` records a gap only if the last one has another run id: then messages were published, and
///   perhaps lost, before the server restarted;
/// - `moved` only if the last one is not younger than so many milliseconds, which follow: then messages
///   were published to another server after it;
/// - `mark` records one always.
pub(crate) static GAP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local place = now
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then
    local run
    for i = 1, #newest[2], 2 do
        if newest[2][i] == 'run' then run = newest[2][i + 1] end
    end
    local ms = tonumber(string.match(newest[1], '^%d+'))
    -- Both ends of the time since then are rounded down.
    local covers = ARGV[2] == 'check' or ms == now or
        ARGV[2] == 'moved' and ms - 1 > now - tonumber(ARGV[3])
    if run == ARGV[1] and covers then
        return {newest[1], string.format('%.0f', now)}
    end
    if ms >= now then place = ms + 1 end
end
local id = string.format('%.0f', place) .. '-18446744073709551615'
redis.call('XADD', KEYS[1], 'MAXLEN', '~', 16, id, 'run', ARGV[1], 'reason', ARGV[2])
redis.call('PUBLISH', KEYS[1], id)
return {id, string.format('%.0f', now)}
",
    )
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_and_is_no_pointer() {
        let message = Message {
            event: "a é".to_owned(),
            data: Bytes::from_static(b"{\"n\": 1}"),
        };
        let sent = transient(&message);
        assert_eq!(parse_transient(&sent), Some(message));
        assert!(InlineMessage::parse(&sent).is_none());
        for other in [
            "12-0",
            "5-1 12-0 1\ne{}",
            "transient 9\ne{}",
            "transient x\ne",
        ] {
            assert_eq!(parse_transient(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn what_the_script_sends_is_read_and_nothing_else() {
        let inline = InlineMessage::parse("5-1 12-0 4\na é{\"n\": \"x\\n\"}\n".as_bytes()).unwrap();
        assert_eq!(inline.previous, StreamId { ms: 5, seq: 1 });
        assert_eq!(inline.entry.id, StreamId { ms: 12, seq: 0 });
        assert_eq!(inline.entry.message.event, "a é");
        assert_eq!(&inline.entry.message.data[..], b"{\"n\": \"x\\n\"}\n");
        for alone in [
            "12-0",
            "",
            "x\n",
            "5-1 12-0\n",
            "5-1 12-0 9\ne{}",
            "5 12-0 1\ne{}",
        ] {
            assert!(
                InlineMessage::parse(alone.as_bytes()).is_none(),
                "{alone:?}"
            );
        }
    }
}
