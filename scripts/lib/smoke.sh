# shellcheck shell=bash
# What the smoke scripts share: a private set, checks that count, requests.

target=${CARGO_TARGET_DIR:-$PWD/target}
export TIDEGATE_LOCAL_DIR=$target/local/$SMOKE TIDEGATE_PORTS=auto
# `make test` has built them.
if [ -z "${TIDEGATE_BIN_DIR:-}" ]; then
    TIDEGATE_PROFILE=dev scripts/build ingest processor query tidegate || exit
    export TIDEGATE_BIN_DIR=$target/debug
fi
unset SVC FOLLOW BASE_URL INGEST_URL PROCESSOR_URL QUERY_URL DATABASE_URL KAFKA_BROKERS REDIS_URL

passed=0 failed=0
scratch=$(mktemp -d)
# PostgreSQL's user passes through it.
chmod 755 -- "$scratch"
finish() {
    make -s reset >/dev/null 2>&1
    rm -rf -- "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

# check NAME COMMAND...: counts, and shows what a failing command said.
check() {
    local name=$1
    shift
    if "$@" >"$scratch/said" 2>&1; then
        passed=$((passed + 1))
        printf 'ok    %s\n' "$name"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s\n' "$name"
        sed 's/^/      /' "$scratch/said" | tail -n 30
    fi
}

give_up() {
    printf 'smoke: FAILED (%s)\n' "$*"
    exit 1
}

# request METHOD URL [curl options]: the status, body in $scratch/body, head in $scratch/head.
request() {
    local method=$1 url=$2
    shift 2
    status=$(curl -sS -m 60 -X "$method" -o "$scratch/body" -D "$scratch/head" -w '%{http_code}' "$url" "$@")
}

# answers WANTED TEXT METHOD URL [curl options]: status and a text the body holds.
answers() {
    local wanted=$1 text=$2
    shift 2
    request "$@"
    [ "$status" = "$wanted" ] && grep -qF -- "$text" "$scratch/body" || {
        echo "wanted $wanted and '$text', got $status: $(head -c 600 "$scratch/body")"
        return 1
    }
}

post() { # post WANTED TEXT PATH BODY
    answers "$1" "$2" POST "$BASE_URL$3" -H 'content-type: application/json' --data-binary "$4"
}

event_id() { grep -oE '"event_id" *: *"[^"]+"' "$scratch/body" | head -n 1 | sed -E 's/.*"([^"]+)"$/\1/'; }

# readable ID [SECONDS]: GET answers 200 within that time.
readable() {
    local deadline=$((SECONDS + ${2:-30}))
    until answers 200 "$1" GET "$BASE_URL/api/v1/events/$1"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.2
    done
}

sql() { psql -XAtq "$DATABASE_URL" -c "$1"; }

# settled N: N events stored, and both aggregates agree, within 30 s.
settled() {
    local wanted="$1|$1|$1" got deadline=$((SECONDS + 30))
    while true; do
        got=$(sql "select (select count(*) from events), (select coalesce(sum(count), 0) from aggregated_events),
                          (select coalesce(sum(count), 0) from aggregated_events_hourly)")
        [ "$got" != "$wanted" ] || return 0
        [ "$SECONDS" -lt "$deadline" ] || break
        sleep 0.2
    done
    echo "wanted stored|daily|hourly = $wanted, got $got"
    return 1
}

state() { make -s status | awk -v name="$1" '$1 == name { print $2 }'; }
is() { local got; got=$(state "$1"); [ "$got" = "$2" ] || { echo "$1 is $got, not $2"; return 1; }; }
fails_saying() { # fails_saying TEXT COMMAND...
    local text=$1 said
    shift
    if said=$("$@" 2>&1); then
        echo "succeeded: $said"
        return 1
    fi
    grep -qF -- "$text" <<<"$said" || { echo "did not say '$text': $said"; return 1; }
}

# The last line, and the exit status.
summary() {
    if [ "$failed" -gt 0 ]; then
        printf '%s: FAILED. %d passed; %d failed\n' "$SMOKE" "$passed" "$failed"
        exit 1
    fi
    printf '%s: ok. %d passed; 0 failed\n' "$SMOKE" "$passed"
}

# hears USER TEXT BODY: an SSE client of that user receives the text after BODY is posted.
hears() {
    local listener deadline=$((SECONDS + 30))
    curl -sN -m 30 "$BASE_URL/api/v1/sse/users/$1" >"$scratch/stream" 2>/dev/null &
    listener=$!
    # The cursor at the beginning says that it listens.
    until grep -q '^id: ' "$scratch/stream" || [ "$SECONDS" -ge "$deadline" ]; do sleep 0.1; done
    post 201 '"event_id"' /api/v1/events/create "$3" || return 1
    until grep -qF -- "$2" "$scratch/stream"; do
        [ "$SECONDS" -lt "$deadline" ] || break
        sleep 0.1
    done
    kill "$listener" 2>/dev/null
    grep -qF -- "$2" "$scratch/stream" || {
        echo "the stream of $1 says: $(cat "$scratch/stream")"
        return 1
    }
}
