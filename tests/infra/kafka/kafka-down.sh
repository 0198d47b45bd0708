#!/usr/bin/env bash
# Stops the Kafka that kafka-up.sh started (same KAFKA_WORK and KAFKA_PORT). Idempotent.
#   KAFKA_KILL=1  kill -9 instead of a clean stop;   KAFKA_WIPE=1  remove its data too
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
W=${KAFKA_WORK:-$here/.work}; D="$W/kafka-${KAFKA_PORT:-19092}"
if [ -s "$D/pid" ]; then
  p=$(cat "$D/pid")
  if kill -0 "$p" 2>/dev/null && grep -qaF "server.properties" "/proc/$p/cmdline"; then
    [ "${KAFKA_KILL:-0}" = 1 ] && kill -9 "$p" || kill "$p"
    for _ in $(seq 1 300); do kill -0 "$p" 2>/dev/null || break; sleep 0.05; done
    kill -9 "$p" 2>/dev/null || true
  fi
  rm -f "$D/pid"
fi
[ "${KAFKA_WIPE:-0}" = 1 ] && rm -rf "$D"
exit 0
