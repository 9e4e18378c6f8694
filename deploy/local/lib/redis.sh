# shellcheck shell=bash
# Redis, append-only so that a restart keeps the streams clients resume from.

redis_url() { printf 'redis://%s/0\n' "$(address_of redis)"; }

start_redis() {
    local server
    server=$(command -v redis-server) || {
        complain 'no redis-server found: run `deploy/local/parts install`'
        return 1
    }
    turn_log redis
    mkdir -p -- "$RUN/redis/data"
    spawn redis "$server" --port "${SETTINGS[port_redis]}" --bind 127.0.0.1 --protected-mode yes \
        --daemonize no --dir "$RUN/redis/data" --save '' --appendonly yes --appendfsync everysec
}

answers_redis() {
    local reply
    exec {socket}<>"/dev/tcp/127.0.0.1/${SETTINGS[port_redis]}" || return 1
    printf 'PING\r\n' >&"$socket"
    read -r -t 2 reply <&"$socket" || true
    exec {socket}>&-
    [ "${reply%$'\r'}" = +PONG ]
}

stop_redis() { stop_process redis TERM 20; }
kill_redis() { kill_process redis; }
