"""Leaving nothing behind of what was started: processes, mounts, bridges, sockets, control groups, the folder.

Rules upheld here:
- Everything is found by the folder's own, random name: nothing of another engine or program can match.
- A folder is deleted only when nothing is mounted below it any more: a volume may be a bind mount of somebody's data.
- Standard library only: this also runs in the keeper, which must start quickly and work when much else is broken.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import os
import re
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable

MNT_DETACH = 2  # umount2(2)
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCBRDELBR = 0x8913, 0x8914, 0x89A1  # netdevice(7), linux/sockios.h
IFF_UP = 1
CGROUPS = "/sys/fs/cgroup"
PROGRAMS = ("dockerd", "containerd", "rclone")  # what is started with our folders in its arguments; a pager is not ours


def processes_naming(folder: str) -> list[int]:
    """Our programs whose command line names a path in the folder: an engine, its containerd and shims, a server."""
    needle = os.fsencode(folder) + b"/"
    found = []
    for pid in _all_pids():
        if command_name(pid).startswith(PROGRAMS):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                if needle in file.read():
                    found.append(pid)
    return found


def descendants(roots: Iterable[int]) -> list[int]:
    """All processes below the given ones, without themselves."""
    children: dict[int, list[int]] = {}
    for pid in _all_pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    pending = list(roots)
    while pending:
        below = children.get(pending.pop(), [])
        found.extend(below)
        pending.extend(below)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is more than a zombie: a thread of it may live on when its first one has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ended = file.read().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
        return not ended or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def command_name(pid: int) -> str:
    """The kernel's name of a process (15 characters), or an empty string."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def kill_all(find: Callable[[], Iterable[int]], *, seconds: float = 10.0) -> list[int]:
    """Kill what `find` finds until it finds nothing alive; returns what would not die in the given time."""
    deadline = time.monotonic() + seconds
    while True:
        alive = [pid for pid in find() if is_alive(pid)]
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(0.02)


def thaw(cgroup: str) -> None:
    """Let paused containers of a control group run again: version 1 keeps even a kill waiting until then."""
    for state in glob.glob(f"{CGROUPS}/freezer/{cgroup}/*/freezer.state"):
        _write(state, "THAWED")
    for state in glob.glob(f"{CGROUPS}/{cgroup}/*/cgroup.freeze"):
        _write(state, "0")


def remove_cgroups(cgroup: str) -> None:
    """Remove the control groups of this name in every hierarchy, deepest first; the last process may need a moment."""
    deadline = time.monotonic() + 2
    while tops := [top for top in (f"{CGROUPS}/{cgroup}", *glob.glob(f"{CGROUPS}/*/{cgroup}")) if os.path.isdir(top)]:
        for top in tops:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def mounts_below(folder: str) -> list[str]:
    """Mountpoints at or below a folder, in the order in which they were mounted."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), line.split()[4])
            if point == folder or point.startswith(folder + "/"):
                found.append(point)
    return found


def unmount_below(folder: str) -> None:
    """Detach every mount at or below a folder."""
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(10):
        points = mounts_below(folder)
        for point in reversed(points):
            libc.umount2(os.fsencode(point), MNT_DETACH)
        if not points:
            return


def bridges_of(folder: str) -> list[str]:
    """The network bridges that the engine of this folder made and that still exist."""
    try:
        with open(os.path.join(folder, "data/network/files/local-kv.db"), "rb") as file:
            names = set(re.findall(rb"br-[0-9a-f]{12}", file.read()))
    except FileNotFoundError:
        return []
    return sorted(name.decode() for name in names if os.path.isdir(f"/sys/class/net/{name.decode()}/bridge"))


def remove_bridge(name: str) -> None:
    """Take a bridge down and delete it (netdevice(7)); `ip` need not be installed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sH14x", name.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags & ~IFF_UP))
        fcntl.ioctl(handle, SIOCBRDELBR, struct.pack("16s", name.encode()))


def sweep(folder: str) -> list[str]:
    """Remove everything that belongs to a folder whose main processes have ended; returns what could not be removed."""
    cgroup = os.path.basename(folder)
    thaw(cgroup)
    named = processes_naming(folder)
    family = {*named, *descendants(named)} - {os.getpid()}
    complaints = [f"process {pid} does not die" for pid in kill_all(lambda: family)]
    for bridge in bridges_of(folder):
        try:
            remove_bridge(bridge)
        except OSError as error:
            complaints.append(f"bridge {bridge}: {error.strerror}")
    _remove_shim_sockets(folder)
    unmount_below(folder)
    remove_cgroups(cgroup)
    still = mounts_below(folder)
    if still:
        return [*complaints, *(f"{point} is still mounted" for point in still)]
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        complaints.append(f"{folder} cannot be deleted")
    return complaints


def _remove_shim_sockets(folder: str) -> None:
    """A killed shim leaves its socket in a folder that all containerds share; its name stands in the bundle."""
    for address in glob.glob(os.path.join(folder, "containerd-state/*/*/*/address")):
        with contextlib.suppress(OSError), open(address, encoding="utf-8") as file:
            os.unlink(file.read().strip().removeprefix("unix://"))


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _write(path: str, text: str) -> None:
    with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
        file.write(text)
