//! What Redis does in one step.

use std::sync::LazyLock;

use redis::Script;
use uuid::Uuid;

use super::pushed;

/// Every process has the same keys, so that a gap one of them notes is everyone's.
pub(crate) fn gaps_key(prefix: &str) -> String {
    format!("tidegate:sse:gaps:{prefix}")
}

/// Hash of the positions published, by partition.
pub(crate) fn positions_key(prefix: &str) -> String {
    format!("tidegate:sse:positions:{prefix}")
}

/// What the keys begin with that say which events a channel got lately.
pub(crate) const SEEN: &str = "tidegate:sse:seen:";

/// Key that is there while that channel, by its own key, knows the event.
pub(crate) fn seen_key(channel: &str, event_id: Uuid) -> String {
    format!("{SEEN}{channel}:{event_id}")
}

/// Publishes one message unless its position was reached before, or its channel got its event
/// lately: gives its id, or nil.
///
/// `KEYS`: channel, positions, event seen. `ARGV`: event, data, scope, version, maxlen, ttl in
/// seconds, for how many seconds the event is remembered (0: not at all), and with a position:
/// partition, offset, timestamp in milliseconds. The rule of positions is
/// [`crate::fence::Reached::advance`]; they advance over an event that is not published again.
/// Nothing is written before the first command that Redis may refuse, so a refusal changes nothing.
/// The pointer is the id alone, or what [`pushed::Pushed::parse`] reads if there is a message before
/// this one and this one is small.
pub(crate) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    let largest = pushed::LARGEST;
    Script::new(&format!(
        r"
local offset, timestamp
if ARGV[8] then
    offset, timestamp = ARGV[9], ARGV[10]
    local reached = redis.call('HGET', KEYS[2], ARGV[8])
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
    if offset then redis.call('HSET', KEYS[2], ARGV[8], offset .. ' ' .. timestamp) end
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
