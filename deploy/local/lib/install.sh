# shellcheck shell=bash
# Installs what is missing, from the distribution's packages. What only some tests need comes
# when asked for: `install --with browser`, `--with monitoring`, `--with nats`, `--with search`, `--with sdks`, and what only the
# benchmarks do: `--with bench`. The all-in-one shape needs less: `--only all-in-one`.

# "package" lines for whatever this machine lacks to build and run everything.
missing_packages() {
    postgres_bin >/dev/null || echo postgresql
    contains all-in-one "$@" || missing_split_packages
    command -v curl >/dev/null || printf '%s\n' curl ca-certificates
    command -v make >/dev/null || echo make
    command -v gcc >/dev/null || printf '%s\n' gcc libc6-dev
    command -v g++ >/dev/null || echo g++
    command -v pkg-config >/dev/null || echo pkg-config
    header openssl/ssl.h || echo libssl-dev
    header zlib.h || echo zlib1g-dev
    ! contains browser "$@" || [ -n "$(browser_binary)" ] || echo chromium
    ! contains monitoring "$@" || command -v promtool >/dev/null || echo prometheus
    ! contains monitoring "$@" || command -v npm >/dev/null || printf '%s\n' nodejs npm
    ! contains pgbouncer "$@" || [ -x /usr/sbin/pgbouncer ] || echo pgbouncer
    ! contains nats "$@" || command -v nats-server >/dev/null || echo nats-server
    ! contains search "$@" || kafka_java >/dev/null || echo default-jre-headless
    ! contains search "$@" || [ -e "$(opensearch_home)/dist" ] || command -v mvn >/dev/null || echo maven
    ! contains sdks "$@" || command -v npm >/dev/null || printf '%s\n' nodejs npm
    ! contains sdks "$@" || python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    ! contains bench "$@" || command -v wrk >/dev/null || echo wrk
    # For the distribution's nginx; another one's modules are built otherwise.
    ! contains bench "$@" || [ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || echo libnginx-mod-nchan
}

missing_split_packages() {
    command -v redis-server >/dev/null || echo redis-server
    command -v kcat >/dev/null || echo kcat
    [ -n "$(nginx_binary)" ] || echo nginx
    kafka_java >/dev/null || echo default-jre-headless
    [ -e "$(kafka_libs)" ] || command -v mvn >/dev/null || echo maven
}

# A Chromium by one of the names that distributions give it.
browser_binary() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }

header() {
    local at
    for at in "/usr/include/$1" /usr/include/*-linux-gnu*/"$1" "/usr/local/include/$1"; do
        [ ! -e "$at" ] || return 0
    done
    return 1
}

cmd_install() {
    local missing as_root=() with=()
    while [ $# -gt 0 ]; do
        case "$1 ${2:-}" in
            '--with browser' | '--with pgbouncer' | '--with nats' | '--with search' | '--with sdks' | '--with monitoring' | '--with bench' | '--only all-in-one') with+=("$2") ;;
            *) die "install takes nothing, --only all-in-one, --with browser, --with pgbouncer, --with nats, --with search, --with sdks, --with monitoring or --with bench: $*" ;;
        esac
        shift 2
    done
    missing=$(missing_packages ${with[@]+"${with[@]}"} | tr '\n' ' ')
    missing=${missing% }
    if [ -n "$missing" ]; then
        command -v apt-get >/dev/null \
            || die "missing: $missing (Debian's names); no apt-get here, so install them with your package manager"
        if [ "$(id -u)" -ne 0 ]; then
            command -v sudo >/dev/null && sudo -n true 2>/dev/null \
                || die "missing packages, and no right to install them. As root: apt-get install --no-install-recommends $missing"
            as_root=(sudo -n)
        fi
        note "installing: $missing"
        # shellcheck disable=SC2086
        install_packages $missing
    fi
    postgres_bin >/dev/null || die 'PostgreSQL 15 or newer is needed, this distribution has an older one: set TIDEGATE_PG_BIN'
    ! contains sdks ${with[@]+"${with[@]}"} || fetch_sdks
    ! contains search ${with[@]+"${with[@]}"} || fetch_opensearch
    ! contains all-in-one ${with[@]+"${with[@]}"} || return 0
    fetch_kafka
    kafka_java >/dev/null || die "Kafka needs Java 17 or newer, and $(command -v java) is older: set JAVA_HOME"
}

# Other people's clients, with which the tests send, and axe, which looks at the console's pages: their
# versions, from npm and PyPI.
SDKS_NPM=(axe-core@4.11.4 cloudevents@10.0.0 @segment/analytics-node@3.1.0 @rudderstack/rudder-sdk-node@3.0.13 @segment/analytics-next@1.84.3)
SDKS_PYTHON=(cloudevents==2.2.0 segment-analytics-python==2.4.0 rudder-sdk-python==2.1.9 standardwebhooks==1.1.0 requests)

fetch_sdks() {
    local into=$CACHE/sdks wanted="${SDKS_NPM[*]} ${SDKS_PYTHON[*]}"
    [ "$(cat -- "$into/versions" 2>/dev/null)" != "$wanted" ] || return 0
    note 'fetching the clients that the tests send with'
    rm -rf -- "$into"
    mkdir -p -- "$into"
    npm install --silent --no-save --ignore-scripts --no-audit --no-fund --prefix "$into" "${SDKS_NPM[@]}" >&2 \
        && python3 -m pip install --quiet --disable-pip-version-check --target "$into/python" "${SDKS_PYTHON[@]}" >&2 \
        || die "npm and pip could not fetch: $wanted"
    printf '%s\n' "$wanted" >"$into/versions"
}

install_packages() {
    local policy=/usr/sbin/policy-rc.d ours='' status=0 service
    # Debian starts what it installs; we want the programs, not their default instances.
    if [ ! -e "$policy" ]; then
        ours=yes
        # shellcheck disable=SC2016
        ${as_root[@]+"${as_root[@]}"} sh -c 'printf "#!/bin/sh\nexit 101\n" >"$1" && chmod 755 "$1"' sh "$policy"
    fi
    {
        ${as_root[@]+"${as_root[@]}"} apt-get -q -o DPkg::Lock::Timeout=300 update \
            && ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
                apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    } >&2 </dev/null || status=$?
    [ -z "$ours" ] || ${as_root[@]+"${as_root[@]}"} rm -f -- "$policy"
    [ "$status" -eq 0 ] || die "apt-get could not install: $*"
    # Nor shall they start at the next boot.
    for service in postgresql pgbouncer redis-server nginx nats-server prometheus; do
        contains "$service" "$@" || continue
        if command -v systemctl >/dev/null; then
            ${as_root[@]+"${as_root[@]}"} systemctl --quiet disable "$service"
        else
            ${as_root[@]+"${as_root[@]}"} update-rc.d "$service" disable
        fi >&2 || complain "could not keep $service from starting at the next boot"
    done
}
