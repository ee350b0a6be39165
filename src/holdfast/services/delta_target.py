"""What a delta restore does to single entries of its target: look, remove, open, copy, give metadata.

Rules upheld here:
- The last part of a path is never followed when it is a symlink; the parts before it are directories that the caller
  has looked at on its way down.
- Nothing is removed across a mount point: what hangs there is not part of the target.
- A file that has names outside its place in the target is never written: it is copied, and the copy takes its place.
- An entry gets metadata only when its own differs, attributes that it has too many included.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from holdfast.errors import RestoreError
from holdfast.repository.tree import Node
from holdfast.services.compare import differences
from holdfast.services.metadata import MetadataWriter

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_COPIED = 1 << 20


def look(path: bytes) -> os.stat_result | None:
    """An entry as it is, a symlink not followed; None when there is none."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def mount_points() -> list[bytes]:
    """Where filesystems are mounted on this machine (proc(5), mountinfo)."""
    with open("/proc/self/mountinfo", "rb") as file:
        places = [line.split(b" ")[4] for line in file]
    return [re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), place) for place in places]


def entries_below(path: bytes) -> Iterator[bytes]:
    """An entry and all below it, what a directory holds before the directory."""
    status = look(path)
    if status is not None and stat.S_ISDIR(status.st_mode):
        for name in os.listdir(path):
            yield from entries_below(os.path.join(path, name))
    yield path


def remove(path: bytes, mounts: list[bytes]) -> int:
    """Remove an entry with all below it; how many entries. Raises: RestoreError when something is mounted there."""
    for place in mounts:
        if place == path or place.startswith(path + b"/"):
            raise RestoreError(
                "what the snapshot has not cannot be removed: a filesystem is mounted there",
                which=os.fsdecode(place),
                hint="unmount it, or restore to another place",
            )
    count = 0
    for entry in entries_below(path):
        status = os.lstat(entry)
        if stat.S_ISDIR(status.st_mode):
            make_usable(entry, status)
            os.rmdir(entry)
        else:
            os.unlink(entry)
        count += 1
    return count


def make_usable(directory: bytes, status: os.stat_result) -> None:
    """Let its owner, if that is us and not root, list and change a directory; its mode is set at the end."""
    if status.st_mode & 0o700 != 0o700 and status.st_uid == os.geteuid():
        os.chmod(directory, stat.S_IMODE(status.st_mode) | 0o700)


def open_file(path: bytes, flags: int) -> int:
    """A descriptor of a regular file that is there. Raises: OSError, RestoreError when it is none any more."""
    try:
        fd = os.open(path, flags | _FLAGS)
    except PermissionError:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise
        os.chmod(path, 0o600)
        fd = os.open(path, flags | _FLAGS)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RestoreError("the target is changed by somebody else meanwhile", which=os.fsdecode(path))
    return fd


def make_file(path: bytes) -> int:
    """A descriptor of a file that was not there."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)


def copy_beside(path: bytes, copy: bytes, size: int) -> None:
    """Copy the first `size` bytes of a file to a new name; holes are read as zeros and left out."""
    source, target = open_file(path, os.O_RDONLY), -1
    try:
        target = make_file(copy)
        for offset in range(0, size, _COPIED):
            data = os.pread(source, min(_COPIED, size - offset), offset)
            if data.strip(b"\0"):
                os.pwrite(target, data, offset)
        os.ftruncate(target, min(size, os.fstat(source).st_size))
    finally:
        os.close(source)
        if target >= 0:
            os.close(target)


def settle(metadata: MetadataWriter, path: bytes, node: Node, *, dry_run: bool) -> bool:
    """Give an entry the metadata that its node tells; whether any of it differed."""
    status = os.lstat(path)
    if not any(True for _ in differences(node, path, status, path)):
        return False
    if not dry_run:
        wanted = {attribute.name for attribute in node.extended_attributes or ()}
        for name in os.listxattr(path, follow_symlinks=False):
            if name not in wanted:
                metadata.drop_attribute(path, name)
        metadata.apply(path, node)
    return True
