#!/bin/sh
# Finishes the root filesystem in $1 of an image that has Python and pip, and nothing else that is not needed for it.
set -eu
root=$1
rm -rf "$root/var/lib/apt/lists" "$root/var/cache/apt" "$root/usr/share/doc" "$root/usr/share/man"
install -d -m 1777 "$root/tmp"
