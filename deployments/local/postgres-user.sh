#!/bin/sh
# Gives the user postgres the number that the official image gives it, before a package chooses another,
# and keeps the packages from creating a database cluster of their own.
set -eu
root=$1

echo 'postgres:x:999:' >>"$root/etc/group"
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>"$root/etc/passwd"
mkdir -p "$root/etc/postgresql-common"
echo 'create_main_cluster = false' >"$root/etc/postgresql-common/createcluster.conf"
