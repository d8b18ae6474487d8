#!/bin/sh
# Runs all services under the launcher, on the Kafka and the PostgreSQL that the environment names.
set -eu
umask 077
export FAIRLEAD_KAFKA="$FAIRLEAD_HOME/kafka-administrator.properties"
cat >"$FAIRLEAD_KAFKA" <<EOF
bootstrap.servers=$KAFKA_SERVERS
security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-256
sasl.username=administrator
sasl.password=$KAFKA_PASSWORD
EOF
unset KAFKA_PASSWORD
exec python -m deploy.embedded supervise
