# shellcheck shell=bash
# PostgreSQL: one private cluster, TCP on loopback only, superuser and database `tidegate`.

PG_PASSWORD=tidegate

database_url() { printf 'postgresql://tidegate:%s@%s/tidegate\n' "$PG_PASSWORD" "$(address_of postgres)"; }

# The directory with the newest PostgreSQL >= 15; fails when there is none.
postgres_bin() {
    local dir version best='' best_version=14
    for dir in ${TIDEGATE_PG_BIN:+"$TIDEGATE_PG_BIN"} /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        "$(dirname -- "$(command -v postgres || echo /none)")"; do
        [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] || continue
        version=$("$dir/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
        if [ "$version" -gt "$best_version" ]; then
            best=$dir best_version=$version
        fi
    done
    [ -n "$best" ] && printf '%s\n' "$best"
}

# PostgreSQL refuses to run as root, so root hands it to an unprivileged user.
postgres_user() {
    if [ "$(id -u)" -ne 0 ]; then
        id -un
    elif [ -n "${TIDEGATE_PG_USER:-}" ]; then
        printf '%s\n' "$TIDEGATE_PG_USER"
    elif getent passwd postgres >/dev/null; then
        echo postgres
    else
        echo nobody
    fi
}

# Command words that run the rest as that user.
as_postgres() {
    local user
    user=$(postgres_user)
    if [ "$(id -u)" -eq 0 ]; then
        AS_POSTGRES=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --)
    else
        AS_POSTGRES=(env)
    fi
}

# Where the cluster is. Normally $RUN/postgres/data; when the unprivileged user cannot get
# there (a checkout below /root, say) it lives in /var/tmp and `data` is a link to it.
postgres_data() { readlink -m -- "$RUN/postgres/data"; }
postgres_outside() { printf '/var/tmp/tidegate-%s\n' "$(printf '%s' "$RUN" | cksum | tr ' ' '-')"; }

make_postgres_home() {
    local probe=$RUN/postgres/reach outside user
    # Written last: without it an earlier attempt was cut short, or there was none.
    [ ! -e "$(postgres_data)/tidegate.conf" ] || return 0
    user=$(postgres_user)
    remove_postgres_data
    rm -rf -- "$probe"
    mkdir -m 700 -- "$probe" || return 1
    if [ "$(id -u)" -ne 0 ] || {
        chown "$user" "$probe" 2>/dev/null && (cd / && "${AS_POSTGRES[@]}" touch "$probe/x" 2>/dev/null)
    }; then
        rm -rf -- "$probe"
        mkdir -m 700 -- "$RUN/postgres/data" || return 1
    else
        rm -rf -- "$probe"
        outside=$(postgres_outside)
        note "postgres: user $user cannot reach $RUN, the data goes to $outside"
        mkdir -m 700 -- "$outside" && ln -s -- "$outside" "$RUN/postgres/data" || return 1
    fi
    [ "$(id -u)" -ne 0 ] || chown "$user" "$(postgres_data)"
}

remove_postgres_data() {
    local outside data=$RUN/postgres/data
    outside=$(postgres_outside)
    # A set deleted by hand may have left a server running on the data outside.
    if [ -d "$outside" ] && [ ! -L "$outside" ] && { [ -O "$outside" ] || [ "$(id -u)" -eq 0 ]; }; then
        kill_in_directory "$outside"
        rm -rf -- "$outside"
    fi
    rm -rf -- "$data"
}

make_cluster() {
    local bin=$1 data log secret
    data=$(postgres_data)
    [ ! -e "$data/tidegate.conf" ] || return 0
    log=$(log_of postgres)
    secret=$RUN/postgres/secret
    printf '%s\n' "$PG_PASSWORD" >"$secret"
    chmod 644 "$secret"
    (
        cd /
        "${AS_POSTGRES[@]}" "$bin/initdb" -D "$data" -U tidegate --pwfile=/dev/stdin -A scram-sha-256 \
            --encoding=UTF8 --locale=C --data-checksums --no-sync --no-instructions <"$secret" \
            && "${AS_POSTGRES[@]}" "$bin/postgres" --single -D "$data" postgres <<'SQL'
create database tidegate
alter role tidegate set search_path = event, public
SQL
    ) >>"$log" 2>&1 || {
        complain "initdb failed; the end of $log:"
        end_of_log postgres
        remove_postgres_data
        return 1
    }
    rm -f -- "$secret"
    printf "include_if_exists = 'tidegate.conf'\n" >>"$data/postgresql.conf"
}

# An eighth of the memory, in MB, from 128 to 4096: what is changed between two checkpoints stays there.
postgres_memory() {
    awk '/^MemTotal/ { mb = int($2 / 8192); print (mb < 128 ? 128 : (mb > 4096 ? 4096 : mb)); found = 1 }
        END { if (!found) print 256 }' /proc/meminfo 2>/dev/null || echo 256
}

# lz4, where the server has it: pglz takes several times the processor time.
postgres_wal_compression() {
    if (cd / && "$1/postgres" -C wal_compression -D "$2" -c wal_compression=lz4) >/dev/null 2>&1; then
        echo lz4
    else
        echo on
    fi
}

start_postgres() {
    local bin data port
    bin=$(postgres_bin) || {
        complain 'no PostgreSQL 15 or newer found: run `deploy/local/parts install`, or set TIDEGATE_PG_BIN'
        return 1
    }
    turn_log postgres
    as_postgres
    make_postgres_home || return 1
    make_cluster "$bin" || return 1
    data=$(postgres_data)
    port=${SETTINGS[port_postgres]}
    # fsync and synchronous_commit keep their defaults (on): an acknowledged row stays. For the rest see
    # docs/operations.md, PostgreSQL's settings.
    cat >"$data/tidegate.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 200
shared_buffers = $(postgres_memory)MB
max_wal_size = 4GB
wal_compression = $(postgres_wal_compression "$bin" "$data")
checkpoint_timeout = 15min
jit = off
log_line_prefix = '%m [%p] %a '
CONF
    # Whoever it names is gone (sweep has looked); a reused pid must not stop the start.
    rm -f -- "$data/postmaster.pid"
    spawn postgres "${AS_POSTGRES[@]}" "$bin/postgres" -D "$data"
}

answers_postgres() {
    "$(postgres_bin)/pg_isready" -q -t 2 -h 127.0.0.1 -p "${SETTINGS[port_postgres]}" -U tidegate -d tidegate
}

# SIGINT = fast (sessions are ended, a checkpoint is written), SIGQUIT = immediate.
stop_postgres() {
    if [ "${2:-}" = --immediate ]; then
        stop_process postgres QUIT 30
    else
        stop_process postgres INT 90
    fi
    sweep_postgres
}

# Backends have sessions of their own and notice a dead postmaster only when idle. The
# postmaster is frozen first, so that it starts no new ones while they are being found.
kill_postgres() {
    local pid
    pid=$(pid_of postgres)
    kill -s STOP "$pid" 2>/dev/null || true
    kill_in_directory "$(postgres_data)"
    kill_process postgres
}

sweep_postgres() { kill_in_directory "$(postgres_data)"; }

# Every postgres process works in its data directory: none may be left, for the next
# server refuses to start while somebody holds the shared memory.
kill_in_directory() {
    local cwd pid found=yes
    [ -d "$1" ] || return 0
    while [ -n "$found" ]; do
        found=
        for cwd in /proc/[0-9]*/cwd; do
            [ "$(readlink -- "$cwd" 2>/dev/null)" = "$1" ] || continue
            pid=${cwd#/proc/}
            pid=${pid%/cwd}
            # Not somebody's shell that happens to stand there.
            case "$(readlink -- "/proc/$pid/exe" 2>/dev/null)" in */postgres | */postgres\ *) ;; *) continue ;; esac
            case "$(process_identity "$pid")" in Z* | X* | '') continue ;; esac
            kill -s KILL "$pid" 2>/dev/null && found=yes
        done
        [ -z "$found" ] || sleep 0.05
    done
}
