//! What Redis does in one step.

use std::sync::LazyLock;

use redis::Script;

use super::pushed;

/// Every process has the same keys, so that a gap one of them notes is everyone's.
pub(crate) fn gaps_key(prefix: &str) -> String {
    format!("tidegate:sse:gaps:{prefix}")
}

/// Hash of the positions published, by partition.
pub(crate) fn positions_key(prefix: &str) -> String {
    format!("tidegate:sse:positions:{prefix}")
}

/// Publishes one message unless its position was reached before: gives its id, or nil.
///
/// `KEYS`: channel, positions. `ARGV`: event, data, scope, version, maxlen, ttl in seconds, and
/// with a position: partition, offset, timestamp in milliseconds. The rule is
/// [`crate::fence::Reached::advance`]. Nothing is written before the first command that Redis may
/// refuse, so a refusal changes nothing. The pointer is the id alone, or what
/// [`pushed::Pushed::parse`] reads if there is a message before this one and this one is small.
pub(crate) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    let largest = pushed::LARGEST;
    Script::new(&format!(
        r"
local offset, timestamp
if ARGV[7] then
    offset, timestamp = ARGV[8], ARGV[9]
    local reached = redis.call('HGET', KEYS[2], ARGV[7])
    if reached then
        local last, latest = string.match(reached, '^(%-?%d+) (%-?%d+)$')
        if last and tonumber(offset) <= tonumber(last) then
            if tonumber(timestamp) <= tonumber(latest) then return false end
        elseif last and tonumber(timestamp) < tonumber(latest) then
            timestamp = latest
        end
    end
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[5], '*',
    'event', ARGV[1], 'data', ARGV[2], 'scope', ARGV[3], 'version', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[6])
if offset then redis.call('HSET', KEYS[2], ARGV[7], offset .. ' ' .. timestamp) end
local pointer = id
if newest and #ARGV[1] + #ARGV[2] <= {largest} then
    pointer = newest[1] .. ' ' .. id .. ' ' .. #ARGV[1] .. '\n' .. ARGV[1] .. ARGV[2]
end
redis.call('PUBLISH', KEYS[1], pointer)
return id
",
    ))
});

/// Notes a gap: gives its id and the time. Everything so far lies before it, and everything from
/// the next millisecond on after it; several in one millisecond are one.
///
/// `KEYS`: gaps. `ARGV`: run of the server, and `check` if only a run other than that of the last
/// gap is one: then messages were published, and perhaps lost, in another life of the server.
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
    if run == ARGV[1] and (ARGV[2] == 'check' or ms == now) then
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
