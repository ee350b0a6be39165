#!/bin/bash
# Starts PostgreSQL in a container, on the conventions of the official image, so that one can stand in for the other:
# - PGDATA, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_INITDB_WALDIR and
#   POSTGRES_HOST_AUTH_METHOD are read; NAME_FILE names a file that holds the value of NAME.
# - An empty PGDATA is initialized once; then every *.sql, *.sql.gz and *.sh of /docker-entrypoint-initdb.d runs, by name.
# - Local connections are trusted, others need the password.
# - Passwords are never on a command line.
set -Eeuo pipefail

fail() {
    echo "error: $1" >&2
    exit 1
}

# The value of NAME, from NAME itself, from the file that NAME_FILE names, or the given default.
setting() {
    local name=$1 file_name="${1}_FILE" default=${2:-}
    if [[ -n ${!name:-} && -n ${!file_name:-} ]]; then
        fail "both $name and $file_name are set"
    elif [[ -n ${!file_name:-} ]]; then
        printf -v "$name" '%s' "$(<"${!file_name}")"
    else
        printf -v "$name" '%s' "${!name:-$default}"
    fi
    export "${name?}"
    unset "$file_name"
}

# Folders that only root can make and give away; then go on as the user postgres.
prepare_as_root() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA"
    chown postgres:postgres /var/run/postgresql
    chmod 2775 /var/run/postgresql
    find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
        mkdir -p "$POSTGRES_INITDB_WALDIR"
        chmod 0700 "$POSTGRES_INITDB_WALDIR"
        find "$POSTGRES_INITDB_WALDIR" \! -user postgres -exec chown postgres '{}' +
    fi
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
}

initialize() {
    if [[ -z $POSTGRES_PASSWORD && $POSTGRES_HOST_AUTH_METHOD != trust ]]; then
        fail "POSTGRES_PASSWORD is not set: give one, or allow everybody in with POSTGRES_HOST_AUTH_METHOD=trust"
    fi
    local options=()
    eval "options=($POSTGRES_INITDB_ARGS)" # the variable is written as a shell would read it
    if [[ -n ${POSTGRES_INITDB_WALDIR:-} ]]; then
        options+=(--waldir="$POSTGRES_INITDB_WALDIR")
    fi
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${options[@]}"
}

allow_connections() {
    local method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption -D "$PGDATA")}
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

run_sql() {
    PGHOST='' PGHOSTADDR='' psql --no-psqlrc --no-password -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" "$@"
}

# While the databases are made, the server (with the options of the later one) can be reached from this container only.
create_databases_in_private() {
    local options
    options=$(printf '%q ' "${@:2}" -c "listen_addresses=" -p 5432)
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "$options" -w start
    create_databases
    pg_ctl -D "$PGDATA" -m fast -w stop
}

create_databases() {
    if [[ $POSTGRES_DB != postgres ]]; then
        run_sql --dbname postgres -v name="$POSTGRES_DB" <<<'CREATE DATABASE :"name";'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) if [[ -x $file ]]; then "$file"; else . "$file"; fi ;;
            *.sql) run_sql --dbname "$POSTGRES_DB" -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | run_sql --dbname "$POSTGRES_DB" ;;
        esac
    done
}

if [[ ${1:-} == -* ]]; then
    set -- postgres "$@"
fi

if [[ ${1:-} == postgres ]]; then
    if [[ $(id -u) == 0 ]]; then
        prepare_as_root "$@"
    fi
    if [[ ! -s $PGDATA/PG_VERSION ]]; then
        setting POSTGRES_PASSWORD
        setting POSTGRES_USER postgres
        setting POSTGRES_DB "$POSTGRES_USER"
        setting POSTGRES_INITDB_ARGS
        setting POSTGRES_HOST_AUTH_METHOD
        shopt -s nullglob
        initialize
        allow_connections
        create_databases_in_private "$@"
        unset POSTGRES_PASSWORD
        echo 'PostgreSQL init process complete; ready for start up.'
    fi
fi

exec "$@"
