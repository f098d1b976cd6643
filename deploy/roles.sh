#!/bin/sh
# Makes the role that the servers work as, when the database is made: it owns nothing, so that the
# wall between organizations binds it (docs/POSTGRES.md). Run by the image of Postgres.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$QUETRA_SERVER_PASSWORD" --username "$POSTGRES_USER" \
  --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE quetra_server LOGIN PASSWORD :'password';
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
SQL
