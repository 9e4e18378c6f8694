# shellcheck shell=bash
# The all-in-one process: `tidegate dev`, which brings a PostgreSQL of its own.

tidegate_binary() { printf '%s\n' "$BIN_DIR/tidegate"; }
# Where the data is. Normally $RUN/tidegate/data; when PostgreSQL's user cannot enter $RUN (a checkout
# below /root, say) it is in /var/tmp and `data` is a link to it.
tidegate_data() { readlink -m -- "$RUN/tidegate/data"; }
tidegate_outside() { printf '%s-dev\n' "$(postgres_outside)"; }

make_tidegate_home() {
    local outside
    [ ! -e "$RUN/tidegate/data" ] || return 0
    as_postgres
    ! (cd / && "${AS_POSTGRES[@]}" sh -c 'cd "$1"' sh "$RUN/tidegate" 2>/dev/null) || return 0
    outside=$(tidegate_outside)
    note "tidegate: user $(postgres_user) cannot enter $RUN, the data goes to $outside"
    remove_tidegate_data
    mkdir -m 755 -- "$outside" && ln -s -- "$outside" "$RUN/tidegate/data"
}

tidegate_stamp() {
    stat -L -c '%n %i %s %Y' -- "$(tidegate_binary)" 2>/dev/null || echo missing
    printf '%s\n' "${SETTINGS[port_tidegate]:-}"
}

# Fills SERVICE_ENV, as service_environment does: nothing it is told points at the split set's parts.
tidegate_environment() {
    SERVICE_ENV=(
        -u DATABASE_URL -u KAFKA_BROKERS -u REDIS_URL
        EVENT_SERVICE_HOST=127.0.0.1
    )
}

start_tidegate() {
    [ -x "$(tidegate_binary)" ] || {
        complain "no $(tidegate_binary): build it with \`cargo build -p tidegate\` (TIDEGATE_PROFILE=dev) or \`cargo build --release -p tidegate\`"
        return 1
    }
    make_tidegate_home || return 1
    tidegate_environment
    turn_log tidegate
    spawn tidegate env "${SERVICE_ENV[@]}" "$(tidegate_binary)" dev \
        --data-dir "$(tidegate_data)" --port "${SETTINGS[port_tidegate]}"
}

answers_tidegate() { [ -r "$(tidegate_data)/environment" ] && curl -fsS -m 2 -o /dev/null "http://127.0.0.1:${SETTINGS[port_tidegate]}/ready"; }

stop_tidegate() { stop_process tidegate TERM $((${SHUTDOWN_GRACE_SECONDS:-25} + 20)); }
kill_tidegate() { kill_process tidegate; }

# What it wrote for us: URLs, and where its database is.
tidegate_addresses() {
    local file
    file=$(tidegate_data)/environment
    [ ! -r "$file" ] || cat -- "$file"
}

# A server whose `tidegate dev` was killed; `stop` and `reset` leave nothing running.
sweep_tidegate() {
    local cluster pid
    cluster=$(tidegate_data)/postgres
    pid=$(head -n 1 -- "$cluster/postmaster.pid" 2>/dev/null) || return 0
    [[ $pid =~ ^[0-9]+$ ]] && [ "$(readlink -- "/proc/$pid/cwd" 2>/dev/null)" = "$(readlink -m -- "$cluster")" ] || return 0
    # SIGINT: a fast shutdown.
    kill -s INT "$pid" 2>/dev/null || true
    local deadline=$((SECONDS + 20))
    while [ -e "/proc/$pid" ]; do
        [ "$SECONDS" -lt "$deadline" ] || {
            kill -s QUIT "$pid" 2>/dev/null || true
            return 0
        }
        sleep 0.05
    done
}

remove_tidegate_data() {
    local outside
    outside=$(tidegate_outside)
    sweep_tidegate
    # A set deleted by hand may have left a server running on the data outside.
    if [ -d "$outside" ] && [ ! -L "$outside" ] && [ -O "$outside" ]; then
        kill_in_directory "$outside/postgres"
        rm -rf -- "$outside"
    fi
    rm -rf -- "$RUN/tidegate/data"
}
