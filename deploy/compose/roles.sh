#!/bin/sh
# Run by Postgres' image when its volume is new: the role that serves. `migrate --grant-to` says what it may.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'END'
\set password `cat /run/secrets/serving-password`
CREATE ROLE token_broker_serving LOGIN PASSWORD :'password';
END
