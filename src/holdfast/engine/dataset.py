"""A snapshot of a ZFS dataset, read through a clone that is mounted read-only.

Rules upheld here:
- A directory qualifies only if the whole of it lies in one dataset, and the program `zfs` is here.
- The clone is mounted in a folder that only its owner can enter: whoever may not see the original sees no copy.
- Both names are made from one random token; removing takes only what carries our name.

A clone, not `.zfs/snapshot`: that may be hidden, and is mounted on demand, which a container's mount namespace does not
see. Inode numbers and times in a clone are those of the original, which the second pass compares.

Source: zfs-snapshot(8), zfs-clone(8), zfs-destroy(8), zfsprops(7).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from holdfast.engine import showcase
from holdfast.engine.ground import ZFS, mount_of, zfs_program
from holdfast.engine.programs import once_idle, run
from holdfast.errors import SourceUnreadable

KIND = "zfs"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The dataset that a directory lies in, by its name, and the directory's path in it."""

    top: str
    below: str

    def plan(self) -> DatasetSnapshot:
        """A snapshot to take."""
        name = showcase.new_name()
        return DatasetSnapshot(f"{self.top}@{name}", showcase.folder_of(name))


@dataclass(frozen=True, slots=True)
class DatasetSnapshot:
    """A snapshot by its whole name, and the folder in which its clone is mounted."""

    name: str
    folder: str
    syncs = False

    @property
    def note(self) -> str:
        """What is written down of it."""
        return json.dumps([KIND, self.name, self.folder])

    def take(self) -> None:
        """`zfs snapshot`. Raises: SourceUnreadable."""
        _zfs("snapshot", self.name)

    def show(self) -> str:
        """`zfs clone`, mounted read-only; where. Raises: SourceUnreadable."""
        top = showcase.make(self.folder)
        _zfs("clone", "-o", "readonly=on", "-o", f"mountpoint={top}", self.name, _clone_of(self.name))
        return top


def dataset_of(path: str, devices: Collection[int]) -> Dataset | None:
    """The dataset that holds all of a directory; None where there is none, or no `zfs` here to ask.

    `devices` are those of everything that was seen in the directory. Raises: OSError.
    """
    real = os.path.realpath(path)
    mount = mount_of(real)
    if mount.kind not in ZFS or set(devices) - {os.stat(path).st_dev} or zfs_program() is None:
        return None
    below = os.path.join(mount.root, os.path.relpath(real, mount.point))
    return Dataset(mount.source, os.path.normpath(below).lstrip("/"))


def remove_snapshot(name: str, folder: str) -> None:
    """Remove a snapshot and its clone; what is not there is fine. Raises: SourceUnreadable."""
    if f"@{showcase.NAME}" not in name or os.path.basename(folder) != name.rpartition("@")[2]:
        raise SourceUnreadable("this is no snapshot of ours", which=name)
    for each in (_clone_of(name), name):
        if _exists(each):
            once_idle(partial(_zfs, "destroy", each))
    showcase.remove(folder)


def _clone_of(snapshot: str) -> str:
    dataset, _, own = snapshot.partition("@")
    return f"{dataset.partition('/')[0]}/{own}"


def _exists(name: str) -> bool:
    try:
        _zfs("list", "-H", "-o", "name", "-t", "all", name)
    except SourceUnreadable as error:
        if "does not exist" in (error.found or ""):
            return False
        raise
    return True


def _zfs(*arguments: str) -> None:
    found = zfs_program()
    if found is None:
        hint = "install it; what was made is removed by the next start"
        raise SourceUnreadable("the program zfs is not here any more", which=arguments[-1], hint=hint)
    run([found, *arguments], arguments[-1])
