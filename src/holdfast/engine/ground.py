"""What a directory lies on: its filesystem and, below that, LVM. Which of them gives a snapshot, and which does not.

Source: proc(5), mountinfo; the kernel's device-mapper names its devices' owners in /sys/dev/block/*/dm/uuid, and
what they lie on in `slaves`: of a thin volume, its pool, whose name there ends in "-tpool".
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

ZFS = frozenset({"zfs", "fuse.zfs"})
"""What the kernel calls it: its own module, and zfs-fuse."""

ON_THIN = frozenset({"ext4", "xfs"})
"""Filesystems that are read in a snapshot of the thin volume below."""

_STILL = "what changed is read in a snapshot, after the writers went on"
_WORDS = {
    "btrfs": f"btrfs: {_STILL}",
    "xfs": "xfs: large files are cloned where it was made with reflink; the rest of what changed is copied",
}
_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_LVM = ", on LVM: only its thin volumes give snapshots without room set aside for them"
_OTHER = "what changed is copied while the writers are held"


@dataclass(frozen=True, slots=True)
class Ground:
    """A filesystem, whether its device is a volume of LVM and a thin one, and whether what makes snapshots is here."""

    kind: str
    lvm: bool = False
    program: bool = False
    thin: bool = False

    @property
    def words(self) -> str:
        """What it means for those who write to it."""
        if self.kind == "zfs":
            return f"zfs: {_STILL}" if self.program else f"zfs: {_OTHER}; with the program zfs here, in a snapshot"
        if self.giver == "lvm":
            name = f"{self.kind} on a thin volume of LVM"
            return f"{name}: {_STILL}" if self.program else f"{name}: {_OTHER}; with lvm2 here, in a snapshot"
        return _WORDS.get(self.kind, f"{self.kind or 'an unknown filesystem'}: {_OTHER}") + (
            _LVM if self._in_vain else ""
        )

    @property
    def giver(self) -> str:
        """Whose snapshots it gives, if any: the filesystem's own or LVM's."""
        return "lvm" if self.thin and self.kind in ON_THIN else self.kind

    @property
    def _in_vain(self) -> bool:
        return self.lvm and not self.thin and self.kind != "btrfs"


def ground_of(path: str) -> Ground:
    """What a path lies on."""
    mount = mount_of(os.path.realpath(path))
    if mount.kind in ZFS:
        return Ground("zfs", program=zfs_program() is not None)
    volume = volume_kind(mount.source)
    return Ground(mount.kind, bool(volume), bool(volume) and lvm_program() is not None, volume == "thin")


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
    return _program("zfs")


def lvm_program() -> str | None:
    """The program `lvm`, which is all of LVM's commands, likewise."""
    return _program("lvm")


def volume_kind(device: str) -> str:
    """Whether a device, by its path, is a volume of LVM: "thin", "thick", or an empty word when it is none."""
    try:
        number = os.stat(device).st_rdev if device.startswith("/dev/") else 0
    except OSError:
        return ""
    place = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if not _uuid(place).startswith("LVM-"):
        return ""
    with suppress(OSError):
        if any(_uuid(f"{place}/slaves/{below}").endswith("-tpool") for below in os.listdir(f"{place}/slaves")):
            return "thin"
    return "thick"


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


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_FOLDERS)))


def _uuid(place: str) -> str:
    """Who made a device, and what it is to them, as they told the device-mapper."""
    try:
        with open(f"{place}/dm/uuid", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
