#!/bin/sh
# Turns the root filesystem in $1, with PostgreSQL just installed, into that of an image on the official conventions.
set -eu
root=$1
here=$(dirname "$0")

chown 999:999 "$root/var/lib/postgresql"
install -d -o 999 -g 999 -m 1777 "$root/var/lib/postgresql/data"
install -d -o 999 -g 999 -m 3777 "$root/run/postgresql"
install -d "$root/docker-entrypoint-initdb.d"
install -m 0755 "$here/postgres-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
sed -ri "s/^#?(listen_addresses)\s*=\s*\S+.*/\1 = '*'/" "$root"/usr/share/postgresql/*/postgresql.conf.sample

# What a server and its client tools never read, beyond what was not even unpacked.
cd "$root"
rm -rf usr/share/lintian usr/share/bug usr/share/perl usr/share/perl5 usr/lib/*/perl usr/lib/*/perl5 \
    usr/lib/*/perl-base usr/bin/perl* var/lib/apt/lists var/cache/apt var/cache/debconf var/log/*
