# shellcheck shell=bash
# Which port belongs to whom: fixed ones by default, free ones with TIDEGATE_PORTS=auto.

declare -A PORT_VARIABLE=(
    [postgres]=TIDEGATE_POSTGRES_PORT [redis]=TIDEGATE_REDIS_PORT
    [kafka]=TIDEGATE_KAFKA_PORT [controller]=TIDEGATE_KAFKA_CONTROLLER_PORT
    [edge]=TIDEGATE_EDGE_PORT [ingest]=TIDEGATE_INGEST_PORT
    [processor]=TIDEGATE_PROCESSOR_PORT [query]=TIDEGATE_QUERY_PORT
    [tidegate]=TIDEGATE_DEV_PORT
)
declare -A PORT_DEFAULT=(
    [postgres]=18432 [redis]=18379 [kafka]=18092 [controller]=18093
    [edge]=8200 [ingest]=8230 [processor]=8231 [query]=8208
    [tidegate]=8208
)

remembered() { [ -n "${SETTINGS[port_$1]:-}" ]; }

# The port of a part: what the environment says, else what was used last, else the default.
port_of() {
    local variable=${PORT_VARIABLE[$1]}
    if [ "$PORT_MODE" = fixed ] && [ -n "${!variable:-}" ]; then
        printf '%s\n' "${!variable}"
    elif remembered "$1"; then
        printf '%s\n' "${SETTINGS[port_$1]}"
    elif [ "$PORT_MODE" = fixed ]; then
        printf '%s\n' "${PORT_DEFAULT[$1]}"
    else
        printf -- '-\n'
    fi
}

address_of() {
    local port
    # What runs keeps the port it was started with, whatever the environment says now.
    if running "$1" && remembered "$1"; then port=${SETTINGS[port_$1]}; else port=$(port_of "$1"); fi
    if [ "$port" = - ]; then echo -; else echo "127.0.0.1:$port"; fi
}

# Settles the ports of the named parts, and of those the services are told about.
remember_ports() {
    local name port variable wanted=("$@")
    for name in "$@"; do
        ! is_service "$name" || wanted+=("${PARTS[@]}")
        [ "$name" != edge ] || wanted+=("${SERVICES[@]}")
    done
    ! contains kafka "${wanted[@]}" || wanted+=(controller)
    for name in $(printf '%s\n' "${wanted[@]}" | sort -u); do
        variable=${PORT_VARIABLE[$name]}
        port=$(port_of "$name")
        if [ "$port" = - ]; then
            port=$(reserve_port) || die 'found no free port between 20000 and 31999'
        elif ! [[ $port =~ ^[0-9]+$ ]] || [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
            die "$variable must be a port (1..65535), not '$port'"
        elif [ "$name" != controller ] && running "$name" && remembered "$name" \
            && [ "$port" != "${SETTINGS[port_$name]}" ]; then
            complain "$name runs on port ${SETTINGS[port_$name]}; $variable=$port counts after \`restart $name\`"
            continue
        fi
        setting "port_$name" "$port"
    done
}

# Reservations keep two sets that start at the same moment apart. One file a port,
# holding the directory it belongs to; a file whose directory is gone is void.
reservations() { printf '%s\n' "${TMPDIR:-/tmp}/tidegate-ports-$(id -u)"; }

reserve_port() {
    local port file owner try
    mkdir -p -- "$(reservations)"
    for ((try = 0; try < 500; try++)); do
        # Below the ephemeral range, so that no outgoing connection sits on it.
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        file=$(reservations)/$port
        if [ -e "$file" ]; then
            owner=$(<"$file") || continue
            [ ! -e "$owner/settings" ] || continue
            rm -f -- "$file"
        fi
        ! listening "$port" || continue
        if (set -o noclobber && printf '%s\n' "$RUN" >"$file") 2>/dev/null; then
            printf '%s\n' "$port"
            return 0
        fi
    done
    return 1
}

release_ports() {
    local key file
    for key in "${!SETTINGS[@]}"; do
        [[ $key == port_* && $key != port_mode ]] || continue
        file=$(reservations)/${SETTINGS[$key]}
        [ "$(cat -- "$file" 2>/dev/null)" != "$RUN" ] || rm -f -- "$file"
    done
}

# Socket inodes that listen on the port at loopback or at every address.
listener_inodes() {
    local hex
    printf -v hex '%04X' "$1"
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$hex" '
        $4 == "0A" {
            n = split($2, at, ":")
            if (at[2] == port && at[1] ~ /^(0100007F|0+|0+FFFF00000100007F|0+01000000)$/) print $10
        }'
}

listening() { [ -n "$(listener_inodes "$1")" ]; }

# "pid 123 (nginx: master process ...)", or nothing when it cannot be seen.
port_owner() {
    local inode link pid
    for inode in $(listener_inodes "$1"); do
        for link in /proc/[0-9]*/fd/*; do
            [ "$(readlink -- "$link" 2>/dev/null)" = "socket:[$inode]" ] || continue
            pid=${link#/proc/}
            pid=${pid%%/*}
            printf 'pid %s (%s)\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c1-120)"
            return 0
        done
    done
}

free_port_or_explain() {
    local name status=0 port owner remedy
    local names=("$1")
    [ "$1" != kafka ] || names+=(controller)
    for name in "${names[@]}"; do
        port=${SETTINGS[port_$name]}
        listening "$port" || continue
        owner=$(port_owner "$port")
        remedy="set ${PORT_VARIABLE[$name]} to a free port"
        [ "$PORT_MODE" = fixed ] || remedy='`reset` this set, so that it picks new ports'
        complain "port $port, wanted for $name, is taken by ${owner:-a program of another user}; stop that, or $remedy"
        status=1
    done
    return "$status"
}
