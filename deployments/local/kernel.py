"""The distribution's kernel with the modules that this machine's own kernel may lack, ready to be booted in a guest.

Rules upheld here:
- Nothing is installed for it: the package is fetched by apt-get, and what a guest needs of it lies in the cache.
- Its first process brings up the host's own root: read through 9p, written to a disk that goes with the guest.
"""

from __future__ import annotations

import glob
import lzma
import os
import stat
import subprocess
import tempfile

from deployments.local import cache
from deployments.local.machine import CannotProvide, architecture, find_tool, full_path, progress
from deployments.local.packages import ensure_tool

_KEPT = ("arch", "crypto", "lib", "fs", "block", "drivers/md", "drivers/block", "drivers/virtio", "net/9p", "net/core")
_FIRST = ("virtio_pci", "virtio_blk", "9p", "9pnet_virtio", "crc32c", "ext4", "overlay")
"""What the guest's root lies on; everything else is loaded from there when it is asked for."""

_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /dev /host /disk /root
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module || exit 1; done
nine=trans=virtio,version=9p2000.L,msize=524288,access=any
$b mount -t 9p -o ro,$nine,cache=loose host /host || exit 1
$b mount -t ext4 /dev/vda /disk || exit 1
$b mkdir -p /disk/upper /disk/work /disk/scratch
$b mount -t overlay -o lowerdir=/host,upperdir=/disk/upper,workdir=/disk/work overlay /root || exit 1
$b mkdir -p /root/scratch /root/exchange /root/usr/lib/modules
$b mount --bind /disk/scratch /root/scratch
$b mount -t 9p -o $nine,cache=none exchange /root/exchange || exit 1
$b mount --bind /root/exchange/modules /root/usr/lib/modules
$b mount -t proc proc /root/proc
$b mount -t sysfs sys /root/sys
$b mount -t devtmpfs dev /root/dev
$b mkdir -p /root/dev/pts /root/dev/shm
$b mount -t devpts pts /root/dev/pts
$b mount -t tmpfs shm /root/dev/shm
$b mount -t tmpfs run /root/run
$b mount -t cgroup2 cgroup /root/sys/fs/cgroup
exec $b switch_root /root /bin/sh /exchange/start
"""


def guest_kernel() -> str:
    """The path of an archive that holds `vmlinuz`, `initramfs` and `modules/VERSION`.

    Raises:
        CannotProvide: the package cannot be had here.
    """
    package = _package()
    with cache.one_at_a_time("kernel"):
        found = cache.cached("kernel", package.replace(".", "-"))
        return found or cache.store("kernel", package.replace(".", "-"), lambda path: _make(package, path))


def _package() -> str:
    """The kernel that the distribution's newest depends on."""
    by_name = f"linux-image-{architecture()}"
    if find_tool("apt-cache") is None or architecture() != "amd64":
        raise CannotProvide("no kernel for a guest", which=by_name, found="not a Debian-like system on amd64")
    said = subprocess.run(["apt-cache", "depends", by_name], capture_output=True, text=True, check=False).stdout
    names = [line.split()[-1] for line in said.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise CannotProvide("no kernel for a guest", which=by_name, found="apt-cache does not know it")
    return names[0]


def _make(package: str, path: str) -> None:
    ensure_tool("depmod", ("kmod",))
    busybox = ensure_tool("busybox", ("busybox-static",))
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        version = _unpack(package, folder)
        _run(["depmod", "-b", folder, version])
        _initramfs(folder, version, busybox)
        os.rename(os.path.join(folder, f"boot/vmlinuz-{version}"), os.path.join(folder, "vmlinuz"))
        _run(["tar", "-cf", path, "-C", folder, "vmlinuz", "initramfs", "-C", f"{folder}/lib", "modules"])


def _unpack(package: str, folder: str) -> str:
    """Fetch the package, and unpack what a guest needs of it; the kernel's version."""
    progress(f"Fetching {package} (once) ...")
    _run(["apt-get", "-q", "download", package], cwd=folder)
    (file,) = glob.glob(os.path.join(folder, "*.deb"))
    version = package.removeprefix("linux-image-")
    modules = f"./lib/modules/{version}"
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as reading:
        members = [f"./boot/vmlinuz-{version}", f"{modules}/modules.*", *(f"{modules}/kernel/{part}" for part in _KEPT)]
        argv = ["tar", "-x", "-C", folder, "--wildcards", *members]
        subprocess.run(argv, stdin=reading.stdout, check=True, capture_output=True)
    os.unlink(file)
    return version


def _initramfs(folder: str, version: str, busybox: str) -> None:
    """A cpio archive (newc): busybox, the first modules in the order in which they depend on each other, and `init`."""
    order: list[str] = []
    for module in _FIRST:
        said = _run(["modprobe", "-d", folder, "-S", version, "--show-depends", module])
        order += [words[1] for line in said.splitlines() if (words := line.split())[:1] == ["insmod"]]
    with open(os.path.join(folder, "initramfs"), "wb") as out:
        for name in ("bin", "modules"):
            out.write(_member(name, stat.S_IFDIR | 0o755, b""))
        out.write(_member("init", stat.S_IFREG | 0o755, _INIT.encode()))
        with open(busybox, "rb") as file:
            out.write(_member("bin/busybox", stat.S_IFREG | 0o755, file.read()))
        for number, path in enumerate(dict.fromkeys(order)):
            name = f"modules/{number:03d}.ko"
            with lzma.open(path) if path.endswith(".xz") else open(path, "rb") as file:
                out.write(_member(name, stat.S_IFREG | 0o644, file.read()))
        out.write(_member("TRAILER!!!", 0, b""))


def _member(name: str, mode: int, content: bytes) -> bytes:
    """One member; source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst."""
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + "".join(f"{number:08x}" for number in fields).encode() + name.encode() + b"\0"
    return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)


def _run(argv: list[str], *, cwd: str | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": full_path()}
    done = subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotProvide(f"{argv[0]} failed", which=" ".join(argv[1:4]), found=done.stderr.strip()[-300:])
    return done.stdout
