"""A read-only snapshot of a btrfs subvolume, in which a directory stands still while its writers go on.

Rules upheld here:
- A directory qualifies only if the whole of it lies in one subvolume whose top can be reached: a snapshot holds empty
  directories in place of other subvolumes, and nothing of what is mounted below.
- The snapshot lies beside the directory, where no container sees it; in it, where that is another filesystem.
- What is made is written down before; removing takes only what carries our name.

Source: ioctl numbers and structures of linux/btrfs.h; btrfs-subvolume(8).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
from collections.abc import Collection
from dataclasses import dataclass

from holdfast.engine.ground import ground_of
from holdfast.errors import SourceUnreadable

PREFIX = ".holdfast-snapshot-"

_TOP_INODE = 256
_CREATE, _DESTROY = 0x50009417, 0x5000940F
_READ_ONLY = 1 << 1


@dataclass(frozen=True, slots=True)
class Subvolume:
    """The subvolume that a directory lies in: its top, the way from there to the directory, where snapshots may lie."""

    top: str
    below: str
    beside: str

    def plan(self) -> SubvolumeSnapshot:
        """A snapshot to take."""
        return SubvolumeSnapshot(self.top, os.path.join(self.beside, PREFIX + secrets.token_hex(8)))


@dataclass(frozen=True, slots=True)
class SubvolumeSnapshot:
    """A snapshot of the subvolume at `top`, and where it lies, which is what is written down of it."""

    top: str
    note: str
    syncs = True

    def take(self) -> None:
        """Make it. Raises: SourceUnreadable."""
        folder, name = os.path.split(self.note)
        top = os.open(self.top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # struct btrfs_ioctl_vol_args_v2: fd, transaction, flags, four words that are not used, name
            fcntl.ioctl(place, _CREATE, bytearray(struct.pack("qQQ32x4040s", top, 0, _READ_ONLY, name.encode())))
        except OSError as error:
            raise SourceUnreadable(
                "cannot take a snapshot of a subvolume", which=self.top, found=error.strerror, hint="run as root"
            ) from error
        finally:
            os.close(top)
            os.close(place)

    def show(self) -> str:
        """Where it lies: it can be read as soon as it is made."""
        return self.note


def subvolume_of(path: str, devices: Collection[int]) -> Subvolume | None:
    """The subvolume that holds all of a directory; None where there is none.

    `devices` are those of everything that was seen in the directory.
    """
    device = os.stat(path).st_dev
    if set(devices) - {device} or ground_of(path).kind != "btrfs":
        return None
    top, below = os.path.realpath(path), ""
    while (status := os.stat(top)).st_ino != _TOP_INODE or status.st_dev != device:
        parent, name = os.path.split(top)
        if parent == top or status.st_dev != device:
            return None  # only a part of the subvolume is mounted here
        top, below = parent, os.path.join(name, below)
    beside = os.path.dirname(os.path.realpath(path))
    return Subvolume(top, below, beside if os.stat(beside).st_dev == device else os.path.realpath(path))


def remove_snapshot(path: str) -> None:
    """Remove a snapshot that was written down; one that is not there is fine. Raises: SourceUnreadable."""
    folder, name = os.path.split(path)
    if not name.startswith(PREFIX):
        raise SourceUnreadable("this is no snapshot of ours", which=path)
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.ioctl(place, _DESTROY, bytearray(struct.pack("q4088s", 0, name.encode())))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise SourceUnreadable(
                "cannot remove a snapshot of a subvolume",
                which=path,
                found=error.strerror,
                hint=f"btrfs subvolume delete {path}",
            ) from error
    finally:
        os.close(place)
