"""What a directory lies on: its filesystem and, below that, LVM. Which of them gives a snapshot, and which does not.

Source: proc(5), mountinfo; the kernel's device-mapper names its devices' owners in /sys/class/block/dm-*/dm/uuid.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import NamedTuple

ZFS = frozenset({"zfs", "fuse.zfs"})
"""What the kernel calls it: its own module, and zfs-fuse."""

_STILL = "what changed is read in a snapshot, after the writers went on"
_WORDS = {
    "btrfs": f"btrfs: {_STILL}",
    "xfs": "xfs: large files are cloned where it was made with reflink; the rest of what changed is copied",
}
_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_LVM = ", on LVM: its snapshots are not used"
_OTHER = "what changed is copied while the writers are held"


@dataclass(frozen=True, slots=True)
class Ground:
    """A filesystem, whether its device is a volume of LVM, and whether the program is here that makes its snapshots."""

    kind: str
    lvm: bool = False
    program: bool = False

    @property
    def words(self) -> str:
        """What it means for those who write to it."""
        if self.kind == "zfs":
            return f"zfs: {_STILL}" if self.program else f"zfs: {_OTHER}; with the program zfs here, in a snapshot"
        return _WORDS.get(self.kind, f"{self.kind or 'an unknown filesystem'}: {_OTHER}") + (_LVM if self.lvm else "")


def ground_of(path: str) -> Ground:
    """What a path lies on."""
    mount = mount_of(os.path.realpath(path))
    if mount.kind in ZFS:
        return Ground("zfs", program=zfs_program() is not None)
    return Ground(mount.kind, _is_lvm(mount.source))


class Mount(NamedTuple):
    """A mount: its filesystem and device, and which folder of that filesystem it shows where."""

    kind: str
    source: str
    root: str
    point: str


def mount_of(path: str) -> Mount:
    """The mount that a real path lies in."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return mount_below(file.read(), path)


def zfs_program() -> str | None:
    """The program `zfs`, also where an ordinary PATH does not lead."""
    return shutil.which("zfs", path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_FOLDERS)))


def mount_below(mountinfo: str, path: str) -> Mount:
    """The mount that a real path lies in, of a list as the kernel gives it; of empty words when there is none."""
    best, found = "", Mount("", "", "", "")
    for line in mountinfo.splitlines():
        mounted, _, described = line.partition(" - ")
        root, point = map(_unescaped, mounted.split()[3:5])
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            kind, source = described.split()[:2]
            best, found = point, Mount(kind, _unescaped(source), root, point)
    return found


def _is_lvm(source: str) -> bool:
    name = os.path.basename(os.path.realpath(source)) if source.startswith("/dev/") else ""
    try:
        with open(f"/sys/class/block/{name}/dm/uuid", encoding="ascii") as file:
            return file.read().startswith("LVM-")
    except OSError:
        return False


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
