#!/bin/sh
# Turns the root filesystem in $1, which holds busybox and nothing else, into that of a tiny application container.
set -eu
root=$1

mkdir -p "$root/bin" "$root/etc" "$root/root" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/var"
install -d -m 1777 "$root/tmp"
test -e "$root/bin/busybox" || cp "$root/usr/bin/busybox" "$root/bin/busybox"
chroot "$root" /bin/busybox --install -s /bin
printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false >"$root/etc/passwd"
printf '%s\n' root:x:0: nogroup:x:65534: >"$root/etc/group"
rm -rf "$root/usr/share/doc" "$root/usr/share/man"
