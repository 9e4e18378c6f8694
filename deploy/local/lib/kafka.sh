# shellcheck shell=bash
# Apache Kafka, one node that is broker and controller (KRaft), run from its jars.

KAFKA_VERSION=4.3.1

kafka_libs() { printf '%s\n' "$CACHE/kafka-$KAFKA_VERSION/libs"; }

# Fetches the jars once for all sets; the directory appears only when it is complete.
fetch_kafka() {
    local home=$CACHE/kafka-$KAFKA_VERSION repository=()
    [ ! -e "$home/libs" ] || return 0
    command -v mvn >/dev/null || {
        complain 'no mvn found to fetch Kafka with: run `deploy/local/parts install`'
        return 1
    }
    mkdir -p -- "$CACHE" 2>/dev/null && [ -w "$CACHE" ] || {
        complain "cannot write to $CACHE as $(id -un): set TIDEGATE_CACHE_DIR"
        return 1
    }
    # Maven wants a home directory to keep its downloads in.
    [ -w "${HOME:-/nonexistent}" ] || repository=("-Dmaven.repo.local=$CACHE/maven")
    (
        flock 8
        [ ! -e "$home/libs" ] || exit 0
        note "kafka: fetching $KAFKA_VERSION from Maven Central (44 MB, once)"
        rm -rf -- "$home"
        mkdir -p -- "$home/project"
        cp -- "$HERE/kafka/pom.xml" "$home/project/"
        cd "$home/project"
        mvn -q -B --strict-checksums ${repository[@]+"${repository[@]}"} -Dkafka.version="$KAFKA_VERSION" \
            dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/libs.new" >&2 </dev/null
        mv -- "$home/libs.new" "$home/libs"
    ) 8>"$CACHE/lock" || {
        complain "could not fetch Kafka $KAFKA_VERSION with mvn (the lines above say why)"
        return 1
    }
}

kafka_java() {
    local java version
    java=${JAVA_HOME:+$JAVA_HOME/bin/java}
    [ -n "$java" ] && [ -x "$java" ] || java=$(command -v java) || return 1
    version=$("$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] && printf '%s\n' "$java"
}

start_kafka() {
    local java broker=${SETTINGS[port_kafka]} controller=${SETTINGS[port_controller]}
    local data=$RUN/kafka/data properties=$RUN/kafka/server.properties
    java=$(kafka_java) || {
        complain 'Kafka needs Java 17 or newer: run `deploy/local/parts install`, or set JAVA_HOME'
        return 1
    }
    fetch_kafka || return 1
    turn_log kafka
    cat >"$properties" <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$broker
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$data
num.partitions=6
# For two cores: fewer threads to be woken for a request.
num.network.threads=1
num.io.threads=4
background.threads=2
auto.create.topics.enable=false
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
replica.fetch.response.max.bytes=33554432
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
log.cleaner.dedupe.buffer.size=8388608
CONF
    # What stands later wins.
    [ ! -e "$RUN/kafka/extra.properties" ] || cat -- "$RUN/kafka/extra.properties" >>"$properties"
    if [ ! -e "$data/meta.properties" ]; then
        rm -rf -- "$data"
        "$java" -cp "$(kafka_libs)/*" "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties" \
            kafka.tools.StorageTool format -t "$(cluster_id)" -c "$properties" \
            >>"$(log_of kafka)" 2>&1 </dev/null || {
            complain "could not format Kafka's storage; the end of $(log_of kafka):"
            end_of_log kafka
            rm -rf -- "$data"
            return 1
        }
    fi
    spawn kafka "$java" "-Xmx${TIDEGATE_KAFKA_HEAP:-512m}" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
        "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties" -cp "$(kafka_libs)/*" \
        kafka.Kafka "$properties"
}

# 16 random bytes, url-safe base64 without padding. Kafka reads an id that starts with
# a dash as an option, so the first character is a letter.
cluster_id() { printf 'T%s\n' "$(head -c 64 /dev/urandom | base64 -w0 | tr -d '+/=' | head -c 20)A"; }

# A fenced broker (just after a kill) is missing from the metadata.
answers_kafka() {
    kcat -L -m 2 -b "127.0.0.1:${SETTINGS[port_kafka]}" </dev/null | grep -q '^ *broker 1 at '
}

stop_kafka() { stop_process kafka TERM 45; }
kill_kafka() { kill_process kafka; }
