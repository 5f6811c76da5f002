#!/bin/bash
# Makes the two databases, each with a user of its own, when the PostgreSQL volume is new.
set -euo pipefail

make_database() {
    psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$1" --set password="$2" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

make_database product "${PRODUCT_DB_PASSWORD:?}"
make_database orders "${ORDER_DB_PASSWORD:?}"
