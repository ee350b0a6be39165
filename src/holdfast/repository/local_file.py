"""Reading one local file whole, and knowing whether it held still meanwhile.

Rules upheld here:
- No symlink is followed, a FIFO does not block, and it must still be the regular file that was listed.
- `stat` before and after: what changed meanwhile is read again, and said when it never held still.
- The metadata that is given back is the open file's, so that it belongs to the bytes that were read.
- Nothing here knows the repository: it runs in worker threads and in helper processes alike.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

TRIES = 3
"""How often a file is read that changes meanwhile."""

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP})


class Look(NamedTuple):
    """The metadata of an open file: permission bits, owner, times in ns, identity."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    links: int


class Still(NamedTuple):
    """A file's bytes, the metadata that belongs to them, and whether it changed during each of the tries."""

    data: bytes
    look: Look
    changed: bool


class GrownTooLarge(Exception):
    """The file has more bytes by now than are to be held in memory: `size`."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


def read_file(path: bytes, *, fuzzy: bool = False, most: int) -> Still:
    """The whole of a regular file of at most `most` bytes. `fuzzy`: it may change meanwhile, and is read once.

    Raises: OSError, GrownTooLarge.
    """
    fd = open_file(path)
    try:
        return _read_still(fd, fuzzy, most)
    finally:
        os.close(fd)


def open_file(path: bytes) -> int:
    """A descriptor to read a file: no symlink is followed, a FIFO does not block, atime stays where that is allowed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)


def status_of(fd: int) -> os.stat_result:
    """The status of an open regular file. Raises: FileNotFoundError when it is something else by now."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "no longer a regular file")
    return status


def look_of(status: os.stat_result) -> Look:
    """The part of a file's status that is recorded."""
    return Look(
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
        status.st_nlink,
    )


def held_still(before: os.stat_result, after: os.stat_result, size: int) -> bool:
    """Whether a file of which `size` bytes were read was the same before and after."""
    still = (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    return still and size == before.st_size == after.st_size


def is_gone(error: OSError) -> bool:
    """Whether the file that was listed is not there any more (or is a symlink now)."""
    return error.errno in _GONE


def _read_still(fd: int, fuzzy: bool, most: int) -> Still:
    for _ in range(TRIES):
        before = status_of(fd)
        if before.st_size > most:
            raise GrownTooLarge(before.st_size)
        data = _read_all(fd, before.st_size)
        changed = not fuzzy and not held_still(before, os.fstat(fd), len(data))
        if not changed:
            break
    return Still(data, look_of(before), changed)


def _read_all(fd: int, size: int) -> bytes:
    # One byte more than expected: a file that grew shows it here, and the end is seen without a second call.
    data = os.pread(fd, size + 1, 0)
    if len(data) == size:
        return data
    parts, at = [data], len(data)
    while at < size and (piece := os.pread(fd, size - at, at)):
        parts.append(piece)
        at += len(piece)
    return b"".join(parts)
