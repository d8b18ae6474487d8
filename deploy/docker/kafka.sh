#!/bin/sh
# Starts Apache's Kafka with the administrator's SCRAM password made at the first start.
set -eu
config=/etc/fairlead/kafka.properties
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id fairlead-docker-nodes- --config "$config" \
    --add-scram "SCRAM-SHA-256=[name=administrator,password=$KAFKA_PASSWORD]"
exec /opt/kafka/bin/kafka-server-start.sh "$config"
