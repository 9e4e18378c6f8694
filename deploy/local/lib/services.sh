# shellcheck shell=bash
# The three services: binaries of this workspace, told where the parts are.

service_binary() { printf '%s\n' "$BIN_DIR/$1"; }

# Fills SERVICE_ENV with assignments for `env`. What else is in the caller's environment
# (LOG_LEVEL, BATCH_SIZE, ...) reaches the service as it is.
service_environment() {
    SERVICE_ENV=(
        EVENT_SERVICE_HOST=127.0.0.1
        "${1^^}_PORT=${SETTINGS[port_$1]}"
        "DATABASE_URL=$(database_url)"
        "KAFKA_BROKERS=127.0.0.1:${SETTINGS[port_kafka]}"
        "REDIS_URL=$(redis_url)"
        "TRUSTED_PROXIES=${TRUSTED_PROXIES:-127.0.0.1}"
    )
}

# Which binary this is and what it is told.
service_stamp() {
    service_environment "$1"
    stat -L -c '%n %i %s %Y' -- "$(service_binary "$1")" 2>/dev/null || echo missing
    printf '%s\n' "${SERVICE_ENV[@]}"
}

service_built() {
    [ -x "$(service_binary "$1")" ] && return 0
    complain "no $(service_binary "$1"): build it with \`cargo build --bins\` (TIDEGATE_PROFILE=dev) or \`cargo build --release --bins\`"
    return 1
}

start_service() {
    service_built "$1" || return 1
    service_environment "$1"
    turn_log "$1"
    spawn "$1" env "${SERVICE_ENV[@]}" "$(service_binary "$1")"
}

# Replaces this process.
exec_service() {
    service_built "$1" || exit 1
    service_environment "$1"
    exec env "${SERVICE_ENV[@]}" "$(service_binary "$1")"
}

answers_service() { curl -fsS -m 2 -o /dev/null "http://127.0.0.1:${SETTINGS[port_$1]}/ready"; }

# They drain: at most SHUTDOWN_GRACE_SECONDS (25), and a little to end.
stop_service() { stop_process "$1" TERM $((${SHUTDOWN_GRACE_SECONDS:-25} + 10)); }
kill_service() { kill_process "$1"; }
