"""Files that appear whole or not at all, and stay: the steps behind a directory store's `put`.

Rules upheld here:
- A file gets its name only after its bytes are on the disk (fsync); the name counts only after the folder was fsynced.
- An unfinished file lies in the folder of its target, so that a rename is enough, and bears a name that listings, and
  restic, pass over.
- Whatever fails, the unfinished file is removed; what a killed process left behind is removed once it is a day old.

Every function lets OSError through: the store translates it once.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.store.base import Bytes

UNFINISHED = ".holdfast-tmp-"
"""How names of unfinished files begin. restic only looks at names of 64 hex digits (and `config`)."""

STALE_SECONDS = 24 * 3600

_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
_PIECE = 64 * 1024 * 1024

# What file systems without hard links (FAT, many FUSE and SMB mounts) answer to link(2).
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def write_unfinished(directory: str, data: Bytes) -> str:
    """A new file in `directory` that holds `data` and is on the disk; its path. Nothing is left when it fails."""
    path = os.path.join(directory, f"{UNFINISHED}{os.getpid()}-{secrets.token_hex(8)}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    try:
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        os.unlink(path)
        raise
    return path


def publish(unfinished: str, path: str, *, replace: bool) -> None:
    """Give an unfinished file its name, for good.

    Raises: FileExistsError when the name is taken and `replace` is false; the unfinished file is gone then.
    """
    try:
        if replace:
            os.rename(unfinished, path)
        else:
            _rename_new(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise
    sync_directory(os.path.dirname(path))


def read_range(path: str, offset: int, length: int | None) -> bytes:
    """Bytes of a regular file; fewer where it ends. Raises: FileNotFoundError also for what is no regular file."""
    with _opened(path) as (descriptor, size):
        wanted = max(0, size - offset)
        return _read_all(descriptor, offset, wanted if length is None else min(length, wanted))


def read_into(path: str, buffer: bytearray | memoryview, offset: int) -> int:
    """A regular file's bytes from an offset into a buffer, as many as go in or are there. Raises: as `read_range`."""
    with _opened(path) as (descriptor, size), memoryview(buffer) as view:
        wanted, filled = min(len(view), max(0, size - offset)), 0
        while filled < wanted and (count := os.preadv(descriptor, [view[filled:wanted]], offset + filled)):
            filled += count
        return filled


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, int]]:
    """A regular file's descriptor and its size."""
    # Without O_NONBLOCK a fifo under the name would block for ever; regular files ignore it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
        yield descriptor, status.st_size
    finally:
        os.close(descriptor)


def make_directory(base: str, path: str) -> None:
    """Make `path` and what is missing between it and `base`, durably. Raises: FileNotFoundError when `base` is missing.

    Folders that exist already are fsynced as well: another process may have made them and not come to that yet.
    """
    if path == base:
        os.stat(base)
        return
    parent = os.path.dirname(path)
    make_directory(base, parent)
    try:
        os.mkdir(path, _FOLDER_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    sync_directory(parent)


def remove_stale(directory: str) -> None:
    """Remove unfinished files that no process can still be writing."""
    oldest = time.time() - STALE_SECONDS
    with os.scandir(directory) as entries:
        left = [entry.path for entry in entries if entry.name.startswith(UNFINISHED)]
    for path in left:
        try:
            if os.lstat(path).st_mtime < oldest:
                os.unlink(path)
        except (FileNotFoundError, PermissionError):
            continue  # another process was quicker, or it is another user's: tidying up never fails a put


def sync_directory(path: str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Network and FUSE file systems that cannot sync a folder say so with these; there is nothing more to do there.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def sync_file(path: str) -> None:
    """Make a file's content and its name durable, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(os.path.dirname(path))


def _rename_new(unfinished: str, path: str) -> None:
    try:
        os.link(unfinished, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
        os.rename(unfinished, path)
    else:
        os.unlink(unfinished)


def _write_all(descriptor: int, data: Bytes) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest[:_PIECE]) :]


def _read_all(descriptor: int, offset: int, length: int) -> bytes:
    pieces: list[bytes] = []
    while length > 0:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
