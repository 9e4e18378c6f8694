# shellcheck shell=bash
# Detached processes, and telling ours from a stranger that got the same pid.

# "state starttime" of a pid from /proc; fails when there is no such process.
# The name in parentheses may hold anything, so the fields are counted behind it.
process_identity() {
    local line
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086
    set -- ${line##*) }
    printf '%s %s\n' "$1" "${20}"
}

# The pid file says "pid starttime boot": all three must fit.
running() {
    local pid started boot identity
    { read -r pid started boot <"$RUN/$1/pid"; } 2>/dev/null || return 1
    [ "$boot" = "$(</proc/sys/kernel/random/boot_id)" ] || return 1
    identity=$(process_identity "$pid") || return 1
    [ "${identity#* }" = "$started" ] || return 1
    case $identity in Z* | X*) return 1 ;; esac
}

pid_of() {
    local pid
    if running "$1"; then
        read -r pid _ <"$RUN/$1/pid"
        printf '%s\n' "$pid"
    else
        printf -- '-\n'
    fi
}

# spawn NAME COMMAND...: a session of its own, nothing inherited but the environment,
# output appended to the part's log. Lines of make's job server, locks and pipes of the
# caller are closed, or `make run | cat` would never return.
spawn() {
    local name=$1 try
    shift
    rm -f -- "$RUN/$name/pid"
    # shellcheck disable=SC2016
    setsid bash -c '
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-"
        done
        pid_file=$1 directory=$2
        shift 2
        starttime() { echo "${20}"; }
        read -r line </proc/$$/stat
        echo "$$ $(starttime ${line##*) }) $(</proc/sys/kernel/random/boot_id)" >"$pid_file.new"
        mv -f "$pid_file.new" "$pid_file"
        cd "$directory"
        exec "$@"
    ' tidegate "$RUN/$name/pid" "$RUN/$name" "$@" </dev/null >>"$(log_of "$name")" 2>&1 &
    disown
    for ((try = 0; try < 100; try++)); do
        [ ! -e "$RUN/$name/pid" ] || return 0
        sleep 0.05
    done
    complain "$name could not be started; the end of $(log_of "$name"):"
    end_of_log "$name"
    return 1
}

# The log of the previous run is kept as log.old once it is large.
turn_log() {
    local log size
    log=$(log_of "$1")
    size=$(stat -c %s -- "$log" 2>/dev/null || echo 0)
    [ "$size" -lt 33554432 ] || mv -f -- "$log" "$log.old"
    printf -- '--- start of %s at %s ---\n' "$1" "$(date -u +%FT%TZ)" >>"$log"
}

# To stderr: the last lines, none older than the latest start.
end_of_log() {
    awk '/^--- start of / { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$(log_of "$1")" \
        | tail -n 25 >&2
}

# stop_process NAME SIGNAL SECONDS: SIGKILL for the whole group when the time is over.
stop_process() {
    local name=$1 signal=$2 seconds=$3 pid deadline=$((SECONDS + $3))
    pid=$(pid_of "$name")
    [ "$pid" != - ] || return 0
    kill -s "$signal" "$pid" 2>/dev/null || true
    while running "$name"; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            complain "$name did not stop within ${seconds}s, killing it"
            kill_process "$name"
            return
        fi
        sleep 0.05
    done
    # Workers that outlived their leader.
    kill -s KILL -- "-$pid" 2>/dev/null || true
}

# SIGKILL for the process and everything in its group; returns when the leader is gone.
kill_process() {
    local pid
    pid=$(pid_of "$1")
    [ "$pid" != - ] || return 0
    kill -s KILL -- "-$pid" 2>/dev/null || kill -s KILL "$pid" 2>/dev/null || true
    while running "$1"; do sleep 0.02; done
}

# Before a start: what a killed leader left behind must not sit on the port. The kernel
# gives no new process a pid that still names a group, so a missing leader means ours.
sweep() {
    local pid
    ! running "$1" || return 0
    if { read -r pid _ <"$RUN/$1/pid"; } 2>/dev/null && [ ! -e "/proc/$pid" ]; then
        kill -s KILL -- "-$pid" 2>/dev/null || true
    fi
    [ "$1" != postgres ] || sweep_postgres
    [ "$1" != tidegate ] || sweep_tidegate
}
