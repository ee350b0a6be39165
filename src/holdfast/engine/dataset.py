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
import secrets
import subprocess
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from holdfast.engine.ground import ZFS, mount_of, zfs_program
from holdfast.errors import SourceUnreadable
from holdfast.model.environment import for_children

KIND = "zfs"
_NAME = "holdfast-still-"
_TOP = "top"
_SECONDS, _BUSY_SECONDS = 60.0, 10.0


@dataclass(frozen=True, slots=True)
class Dataset:
    """The dataset that a directory lies in, by its name, and the directory's path in it."""

    top: str
    below: str

    def plan(self) -> DatasetSnapshot:
        """A snapshot to take."""
        token = secrets.token_hex(8)
        return DatasetSnapshot(f"{self.top}@{_NAME}{token}", os.path.join(tempfile.gettempdir(), _NAME + token))


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
        os.mkdir(self.folder, 0o700)
        top = os.path.join(self.folder, _TOP)
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
    if f"@{_NAME}" not in name or not os.path.basename(folder).startswith(_NAME):
        raise SourceUnreadable("this is no snapshot of ours", which=name)
    for each in (_clone_of(name), name):
        if _exists(each):
            _destroy(each)
    for each in (os.path.join(folder, _TOP), folder):
        with suppress(FileNotFoundError):
            os.rmdir(each)


def _clone_of(snapshot: str) -> str:
    dataset, _, own = snapshot.partition("@")
    return f"{dataset.partition('/')[0]}/{own}"


def _destroy(name: str) -> None:
    """What was just read may be in use for a moment longer: by a daemon that gives files back late, or an indexer."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return _zfs("destroy", name)
        except SourceUnreadable as error:
            if "busy" not in (error.found or "") or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


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
        raise SourceUnreadable(
            "the program zfs is not here any more", which=arguments[-1], hint=f"zfs destroy {arguments[-1]}"
        )
    try:
        done = subprocess.run(
            [found, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False, env=for_children()
        )
    except subprocess.TimeoutExpired as error:
        raise SourceUnreadable(
            f"zfs {arguments[0]} does not end", which=arguments[-1], wanted=f"within {_SECONDS:.0f} s"
        ) from error
    if done.returncode != 0:
        raise SourceUnreadable(
            f"zfs {arguments[0]} failed", which=arguments[-1], found=done.stderr.strip(), hint="run as root"
        )
