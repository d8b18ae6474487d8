#!/bin/sh
# Prints an .env file with fresh passwords for docker-compose.yml: sh deploy/docker/passwords.sh > .env
set -eu
for name in KAFKA_PASSWORD CONTROLLER_PASSWORD POSTGRES_PASSWORD; do
    printf '%s=%s\n' "$name" "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"
done
