# shellcheck shell=bash
# What `make test`, `make soak` and `make bench` share: parts of their own, and the built tests.

# private_parts NAME: PostgreSQL, Redis and Kafka on new data below target/local/NAME, apart from
# those of `make run`, whatever the caller's environment says. They stop when the script ends.
# Exports the addresses and the tool for the tests.
private_parts() {
    local addresses
    parts_directory=$target/local/$1
    export TIDEGATE_PARTS=$PWD/deploy/local/parts
    trap 'own_parts down >/dev/null 2>&1' EXIT
    trap 'exit 130' INT TERM
    [ ! -d "$parts_directory" ] || own_parts reset || return
    own_parts up postgres redis kafka || return
    addresses=$(own_parts env) || return
    eval "$addresses"
    # shellcheck disable=SC2153
    export TEST_DATABASE_URL=$DATABASE_URL TEST_KAFKA_BROKERS=$KAFKA_BROKERS TEST_REDIS_URL=$REDIS_URL
    export TEST_PARTS_DIRECTORY=$parts_directory
    unset DATABASE_URL KAFKA_BROKERS REDIS_URL
}

# File descriptor 9 may be a lock: what stays in the background must not hold it.
own_parts() {
    env TIDEGATE_LOCAL_DIR="$parts_directory" TIDEGATE_PORTS=auto "$TIDEGATE_PARTS" "$@" 9>&-
}

# build_tests OUTPUT SELECTION...: builds the tests, and with them the services: one set of features,
# so that nothing is compiled twice. Writes a line for each test binary, its package's directory and
# its path, to OUTPUT/binaries.
build_tests() {
    local output=$1
    shift
    rm -rf -- "$output" && mkdir -p -- "$output" || return
    cargo test --no-run --message-format=json-render-diagnostics "$@" 9>&- >"$output/messages" || return
    grep '"profile":{[^}]*"test":true' "$output/messages" \
        | sed -nE 's|.*"manifest_path":"([^"]+)/Cargo.toml".*"executable":"([^"]+)".*|\1 \2|p' >"$output/binaries"
}
