"""What a directory lies on: its filesystem and, below that, LVM. Which of them gives a snapshot, and which does not.

Source: proc(5), mountinfo; the kernel's device-mapper names its devices' owners in /sys/class/block/dm-*/dm/uuid.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

_WORDS = {
    "btrfs": "btrfs: what changed is read in a snapshot, after the writers went on",
    "xfs": "xfs: large files are cloned where it was made with reflink; the rest of what changed is copied",
    "zfs": "zfs: its snapshots are not used; what changed is copied while the writers are held",
}
_LVM = ", on LVM: its snapshots are not used"
_OTHER = "what changed is copied while the writers are held"


@dataclass(frozen=True, slots=True)
class Ground:
    """A filesystem as the kernel calls it, and whether its device is a volume of LVM."""

    kind: str
    lvm: bool = False

    @property
    def words(self) -> str:
        """What it means for those who write to it."""
        return _WORDS.get(self.kind, f"{self.kind or 'an unknown filesystem'}: {_OTHER}") + (_LVM if self.lvm else "")


def ground_of(path: str) -> Ground:
    """What a path lies on."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        kind, source = mount_below(file.read(), os.path.realpath(path))
    return Ground(kind, _is_lvm(source))


def mount_below(mountinfo: str, path: str) -> tuple[str, str]:
    """The filesystem and the device of the mount that a real path lies in; two empty words when there is none."""
    best, found = "", ("", "")
    for line in mountinfo.splitlines():
        mounted, _, described = line.partition(" - ")
        point = _unescaped(mounted.split()[4])
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            kind, source = described.split()[:2]
            best, found = point, (kind, _unescaped(source))
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
