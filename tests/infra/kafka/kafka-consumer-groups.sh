#!/usr/bin/env bash
# Kafka's own kafka-consumer-groups, from the jars that kafka-up.sh fetched (same KAFKA_WORK).
#   kafka-consumer-groups.sh --bootstrap-server H:P --describe --group pelton.default.digits
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
W=${KAFKA_WORK:-$here/.work}; J="$W/kafka-jars-$(cksum <"$here/pom.xml" | cut -d" " -f1)"
[ -e "$J/.complete" ] || { echo "no jars in $J: start a Kafka with kafka-up.sh first" >&2; exit 1; }
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
  -cp "$J/*" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"
