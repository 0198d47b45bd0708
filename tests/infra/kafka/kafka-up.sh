#!/usr/bin/env bash
# Starts one real Apache Kafka (KRaft, single node) on 127.0.0.1 and returns when it serves requests. Idempotent.
#   KAFKA_WORK   where jars, data, log and pid file go   (default: .work beside this script)
#   KAFKA_PORT   client port, the controller takes port+1 (default: 19092)
#   KAFKA_HEAP   JVM heap                                 (default: 1g)
#   KAFKA_PARTITIONS  default partitions                  (default: 8)
#   KAFKA_FRESH=1     throw the old data away first
#   KAFKA_SESSION_MS  a start after kill -9 waits this long; too small and a loaded machine fences the broker (default: 9000, as Kafka's)
#   KAFKA_TLS    folder of certificates: starts the secured listeners too, see README.md; they take PORT+2 to PORT+7
#   KAFKA_JVM, KAFKA_PROPS   extra JVM flags / extra server.properties lines ("a=b\nc=d")
# Needs: java 17+, maven (first time only), flock (util-linux). Prints the bootstrap address.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
W=${KAFKA_WORK:-$here/.work}; PORT=${KAFKA_PORT:-19092}; CPORT=$((PORT + 1)); D="$W/kafka-$PORT"
mkdir -p "$D" && W=$(cd "$W" && pwd) && D="$W/kafka-$PORT"
up() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
alive() { [ -s "$D/pid" ] && kill -0 "$(cat "$D/pid")" 2>/dev/null && grep -qaF "$D/server.properties" "/proc/$(cat "$D/pid")/cmdline"; }
ready() { for _ in $(seq 1 3600); do
    kill -0 "$(cat "$D/pid")" 2>/dev/null || { echo "kafka died:" >&2; tail -30 "$D/log" >&2; return 1; }
    grep -q 'Kafka Server started' "$D/log" && up "$PORT" && return 0; sleep 0.05; done
  echo "kafka not ready after 180 s" >&2; tail -30 "$D/log" >&2; return 1; }

exec 9>"$W/kafka-$PORT.lock"; flock 9                    # two callers at once: the second finds it running
if alive; then ready; echo "127.0.0.1:$PORT"; exit 0; fi
if up "$PORT"; then echo "port $PORT is taken by something else" >&2; exit 1; fi

# Named after the pom, so that a change of it fetches anew.
J="$W/kafka-jars-$(cksum <"$here/pom.xml" | cut -d" " -f1)"
if [ ! -e "$J/.complete" ]; then
  ( flock 8; [ -e "$J/.complete" ] && exit 0
    rm -rf "$J.part" "$J"
    mvn -q -B -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$J.part" >"$W/kafka-mvn.log" 2>&1 9>&- || { tail -20 "$W/kafka-mvn.log" >&2; exit 1; }
    mv "$J.part" "$J"; touch "$J/.complete" ) 8>"$W/kafka-jars.lock"
fi

[ "${KAFKA_FRESH:-0}" = 1 ] && rm -rf "$D/data"
. "$here/kafka-secure.sh"                                # sets LISTEN, PROTOCOLS, SECURE and SCRAM
cat >"$D/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$CPORT
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$CPORT$LISTEN
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT$LISTEN
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$PROTOCOLS
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$D/data
num.partitions=${KAFKA_PARTITIONS:-8}
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
min.insync.replicas=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=${KAFKA_SESSION_MS:-9000}
broker.heartbeat.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
log.retention.check.interval.ms=2000
log.initial.task.delay.ms=2000
log.cleaner.backoff.ms=1000
socket.listen.backlog.size=4096
offsets.retention.check.interval.ms=1000
producer.id.expiration.check.interval.ms=1000
transactional.id.expiration.ms=60000
transaction.remove.expired.transaction.cleanup.interval.ms=1000
message.max.bytes=20000000
replica.fetch.max.bytes=20000000
auto.create.topics.enable=true
$SECURE
P
printf '%b\n' "${KAFKA_PROPS:-}" >>"$D/server.properties"
if [ ! -e "$D/data/meta.properties" ]; then
  rm -rf "$D/data"; mkdir -p "$D/data"
  java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -cp "$J/*" kafka.tools.StorageTool format -t "$(head -c16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d =)" -c "$D/server.properties" "${SCRAM[@]}" >"$D/format.log" 2>&1 9>&- \
    || { cat "$D/format.log" >&2; exit 1; }
fi
: >"$D/log"
cd "$D"
setsid nohup java -Xms256m -Xmx"${KAFKA_HEAP:-1g}" -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -Djava.awt.headless=true \
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
  -Dorg.slf4j.simpleLogger.showDateTime=true ${KAFKA_JVM:-} \
  -cp "$J/*" kafka.Kafka "$D/server.properties" </dev/null >>"$D/log" 2>&1 9>&- &
echo $! >"$D/pid"
ready; echo "127.0.0.1:$PORT"
