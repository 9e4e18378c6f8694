# shellcheck shell=bash
# OpenSearch, one node run from its jars, for the tests of search: `install --with search` fetches it, and
# `parts opensearch DIRECTORY PORT` runs one in the foreground. The jars come without what makes modules of
# them, so that is written here.

OPENSEARCH_VERSION=2.19.6

opensearch_home() { printf '%s\n' "$CACHE/opensearch-$OPENSEARCH_VERSION"; }

# Fetches the jars once for all; the directory `dist` appears only when it is complete.
fetch_opensearch() {
    local home repository=()
    home=$(opensearch_home)
    [ ! -e "$home/dist" ] || return 0
    command -v mvn >/dev/null || die 'no mvn found to fetch OpenSearch with: run `deploy/local/parts install`'
    mkdir -p -- "$CACHE"
    [ -w "${HOME:-/nonexistent}" ] || repository=("-Dmaven.repo.local=$CACHE/maven")
    (
        flock 8
        [ ! -e "$home/dist" ] || exit 0
        note "opensearch: fetching $OPENSEARCH_VERSION from Maven Central (45 MB, once)"
        rm -rf -- "$home"
        mkdir -p -- "$home/project" "$home/new/lib"
        cp -- "$HERE/opensearch/pom.xml" "$home/project/"
        cd "$home/project"
        mvn -q -B --strict-checksums ${repository[@]+"${repository[@]}"} -Dopensearch.version="$OPENSEARCH_VERSION" \
            dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/new/lib" >&2 </dev/null
        opensearch_modules "$home/new"
        mv -- "$home/new" "$home/dist"
    ) 8>"$CACHE/lock.opensearch" || die "could not fetch OpenSearch $OPENSEARCH_VERSION (the lines above say why)"
}

opensearch_modules() {
    cd "$1/lib"
    opensearch_module transport-netty4 org.opensearch.transport.Netty4Plugin \
        'java.io.FilePermission "/proc/sys/net/core/somaxconn", "read"' \
        'java.net.SocketPermission "*", "accept,connect,resolve"' \
        'java.util.PropertyPermission "sun.nio.ch.bugLevel", "write"' \
        'java.lang.RuntimePermission "getClassLoader"' 'java.lang.RuntimePermission "setContextClassLoader"'
    mv -- netty-*.jar transport-netty4-client-*.jar ../modules/transport-netty4/
    opensearch_module analysis-common org.opensearch.analysis.common.CommonAnalysisPlugin
    mv -- analysis-common-*.jar ../modules/analysis-common/
    opensearch_module reindex org.opensearch.index.reindex.ReindexPlugin \
        'java.net.SocketPermission "*", "connect"' 'java.net.NetPermission "getProxySelector"'
    mv -- reindex-client-* opensearch-rest-client-* opensearch-ssl-config-* http*.jar commons-*.jar ../modules/reindex/
    opensearch_module lang-painless org.opensearch.painless.PainlessPlugin \
        'java.lang.RuntimePermission "createClassLoader"' 'java.lang.RuntimePermission "getClassLoader"'
    mv -- lang-painless-* opensearch-scripting-painless-spi-* asm*.jar antlr4-runtime-* ../modules/lang-painless/
}

# opensearch_module NAME CLASS PERMISSION...
opensearch_module() {
    local into=../modules/$1 permission
    mkdir -p -- "$into"
    printf '%s\n' "name=$1" "description=$1" "version=$OPENSEARCH_VERSION" \
        "opensearch.version=$OPENSEARCH_VERSION" java.version=11 "classname=$2" custom.foldername= extended.plugins= \
        has.native.controller=false >"$into/plugin-descriptor.properties"
    shift 2
    [ $# -gt 0 ] || return 0
    {
        echo 'grant {'
        for permission in "$@"; do printf '  permission %s;\n' "$permission"; done
        echo '};'
    } >"$into/plugin-security.policy"
}

# Runs one in DIRECTORY, which keeps its data, and listens on PORT of loopback, until it is ended.
cmd_opensearch() {
    local java as_nobody=() home=${1:-} port=${2:-}
    [ -n "$home" ] && [ -n "$port" ] || die 'opensearch needs a directory and a port'
    java=$(kafka_java) || die 'OpenSearch needs Java 17 or newer: run `deploy/local/parts install`, or set JAVA_HOME'
    fetch_opensearch
    mkdir -p -- "$home"/{bin,config,data,extensions,logs,plugins,tmp}
    # It refuses root, and nobody else may be able to reach the cache.
    [ -e "$home/lib" ] || cp -R -- "$(opensearch_home)"/dist/{lib,modules} "$home/"
    cp -- "$HERE/opensearch/log4j2.properties" "$home/config/"
    cat >"$home/config/opensearch.yml" <<CONF
cluster.name: tidegate
node.name: one
network.host: 127.0.0.1
http.port: $port
transport.port: 0
discovery.type: single-node
path.data: $home/data
path.logs: $home/logs
cluster.routing.allocation.disk.threshold_enabled: false
action.auto_create_index: false
CONF
    if [ "$(id -u)" -eq 0 ]; then
        chmod 755 "$home"
        chown -R nobody:nogroup "$home"/{config,data,logs,tmp}
        as_nobody=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    fi
    cd "$home"
    exec ${as_nobody[@]+"${as_nobody[@]}"} "$java" -Xms512m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
        -Djava.security.manager=allow -Djava.io.tmpdir="$home/tmp" -Djna.tmpdir="$home/tmp" -Djna.nosys=true \
        -Dlog4j.shutdownHookEnabled=false -Dlog4j2.disable.jmx=true -Dfile.encoding=UTF-8 -Djava.locale.providers=SPI,COMPAT \
        -Dio.netty.noUnsafe=true -Dio.netty.noKeySetOptimization=true -Dio.netty.recycler.maxCapacityPerThread=0 \
        -Dio.netty.allocator.numDirectArenas=0 -Dopensearch.path.home="$home" -Dopensearch.path.conf="$home/config" \
        -Dopensearch.distribution.type=tar -cp "$home/lib/*" org.opensearch.bootstrap.OpenSearch
}
