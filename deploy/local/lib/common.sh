# shellcheck shell=bash
# Names, directories, settings and messages shared by the other files.

PARTS=(postgres redis kafka)
SERVICES=(processor query ingest)
# Start order; stopping goes the other way round.
SPLIT=("${PARTS[@]}" "${SERVICES[@]}" edge)
EVERYTHING=("${SPLIT[@]}" tidegate)

note() { printf '%s\n' "$*" >&2; }
complain() { printf 'parts: %s\n' "$*" >&2; }
die() {
    complain "$*"
    exit 1
}
# needs_name VERB NAMES...: fails when no name follows.
needs_name() {
    [ $# -gt 1 ] || die "$1 needs a name: ${EVERYTHING[*]}"
}
unknown() {
    complain "no part or service called '${1:-}'; there are: ${EVERYTHING[*]}"
    exit 2
}

contains() {
    local wanted=$1 item
    shift
    for item in "$@"; do
        [ "$item" != "$wanted" ] || return 0
    done
    return 1
}

is_service() { contains "$1" "${SERVICES[@]}"; }
kind() { if is_service "$1"; then echo service; else echo "$1"; fi; }

# Group and part names -> part names in start order, each once.
expand() {
    local arg wanted=() name
    for arg in "$@"; do
        case $arg in
            all) wanted+=("${SPLIT[@]}") ;;
            parts) wanted+=("${PARTS[@]}") ;;
            services) wanted+=("${SERVICES[@]}") ;;
            *)
                contains "$arg" "${EVERYTHING[@]}" || unknown "$arg"
                wanted+=("$arg")
                ;;
        esac
    done
    for name in "${EVERYTHING[@]}"; do
        ! contains "$name" "${wanted[@]}" || printf '%s\n' "$name"
    done
}

configure() {
    [ -r /proc/self/stat ] || die 'needs Linux (/proc); elsewhere use docker compose up'
    TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
    case $TARGET in /*) ;; *) TARGET=$ROOT/$TARGET ;; esac
    RUN=${TIDEGATE_LOCAL_DIR:-$TARGET/local/run}
    case $RUN in /*) ;; *) RUN=$PWD/$RUN ;; esac
    CACHE=${TIDEGATE_CACHE_DIR:-$TARGET/local/cache}
    case $CACHE in /*) ;; *) CACHE=$PWD/$CACHE ;; esac
    WAIT=${TIDEGATE_WAIT:-120}
    [[ $WAIT =~ ^[0-9]+$ ]] || die "TIDEGATE_WAIT must be a number of seconds, not '$WAIT'"
    declare -gA SETTINGS=()
    load_settings
    PORT_MODE=${TIDEGATE_PORTS:-${SETTINGS[port_mode]:-fixed}}
    case $PORT_MODE in auto | fixed) ;; *) die "TIDEGATE_PORTS must be auto or fixed, not '$PORT_MODE'" ;; esac
    BIN_DIR=${TIDEGATE_BIN_DIR:-}
    if [ -z "$BIN_DIR" ]; then
        case ${TIDEGATE_PROFILE:-} in
            '') BIN_DIR=${SETTINGS[bin_dir]:-$TARGET/release} ;;
            dev | debug) BIN_DIR=$TARGET/debug ;;
            *) BIN_DIR=$TARGET/$TIDEGATE_PROFILE ;;
        esac
    fi
}

have_directory() { [ -e "$RUN/settings" ]; }

ready_directory() {
    mkdir -p -- "$RUN" 2>/dev/null && [ -w "$RUN" ] \
        || die "cannot write to $RUN as $(id -un): use the user that made it, or another TIDEGATE_LOCAL_DIR"
    local name
    for name in "${EVERYTHING[@]}"; do
        mkdir -p -- "$RUN/$name"
    done
    setting port_mode "$PORT_MODE"
    setting bin_dir "$BIN_DIR"
}

# settings: key=value lines that outlive the environment of the first call.
load_settings() {
    local key value
    [ -r "$RUN/settings" ] || return 0
    while IFS='=' read -r key value; do
        [ -z "$key" ] || SETTINGS[$key]=$value
    done <"$RUN/settings"
}

# Several calls may write at once (a test starts one part while it stops another).
setting() {
    local key=$1 value=$2 line other
    [ "${SETTINGS[$key]-}" != "$value" ] || [ ! -e "$RUN/settings" ] || return 0
    (
        flock 9
        SETTINGS=()
        load_settings
        SETTINGS[$key]=$value
        for other in "${!SETTINGS[@]}"; do
            line=$other=${SETTINGS[$other]}
            printf '%s\n' "$line"
        done >"$RUN/settings.new"
        mv -f -- "$RUN/settings.new" "$RUN/settings"
    ) 9>"$RUN/settings.lock"
    SETTINGS[$key]=$value
}

log_of() { printf '%s\n' "$RUN/$1/log"; }
pid_file() { printf '%s\n' "$RUN/$1/pid"; }

# One lock per part, so that killing one does not wait for another to come up.
declare -A LOCK_FD=()
lock() {
    local fd
    # A set made before there was this part has no directory for it.
    mkdir -p -- "$RUN/$1"
    exec {fd}>"$RUN/$1/lock"
    flock "$fd"
    LOCK_FD[$1]=$fd
}
unlock() {
    local fd=${LOCK_FD[$1]}
    exec {fd}>&-
    unset "LOCK_FD[$1]"
}
