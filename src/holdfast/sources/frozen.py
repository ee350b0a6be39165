"""The second pass over a directory whose writers are held: what changed since a first, live pass, and nothing else.

Rules upheld here:
- A file is unchanged only if path, size, inode, mtime and ctime are those of the first pass *and* neither time is at or
  after the instant taken before that pass's syncfs (less a tick of the kernel's clock, or less what the filesystem's
  times leave out): an mmap write after write-back faults again, so that its time moves past that instant.
- While the writers are held everything else is only looked at; the content of what changed is copied into a spool, so
  that compressing and uploading wait until the writers go on.
- Where the filesystem gave a snapshot instead, the writers go on already: it is looked at there, and nothing is copied.
- Where the filesystem shares blocks between files (btrfs, XFS), a large file is cloned in an instant instead of copied.
- Memory holds 16 bytes per entry of the tree, and an entry per change.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from holdfast.errors import SourceUnreadable, SpoolFull
from holdfast.model.entry import ByteStream, Entry, Kind, last_changed_before
from holdfast.sources.tree import TreeSource

TICK_NS = 50_000_000
"""Times this close to the instant are not trusted: the kernel stamps files with a clock that lags by up to a tick."""

_FICLONE = 0x40049409
"""ioctl_ficlone(2): share a file's blocks."""

_WORTH_CLONING = 256 << 10
_MOST_CLONES = 256
_TRIES = 3
_PIECE = 8 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ELOOP})


def sync_filesystem(path: bytes) -> None:
    """Write back what the filesystem of `path` holds in memory (syncfs(2)). Raises: SourceUnreadable."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd) != 0:
            found = os.strerror(ctypes.get_errno())
            raise SourceUnreadable("cannot write back a filesystem", which=os.fsdecode(path), found=found)
    finally:
        os.close(fd)


class LiveTree(TreeSource):
    """The first pass: as `TreeSource`, and it remembers what it saw of each entry."""

    def __init__(self, root: str | bytes, *, label: str, exclude: tuple[str, ...] = ()) -> None:
        super().__init__(root, label=label, exclude=exclude)
        self.seen: set[bytes] = set()
        self.devices: set[int] = set()

    def entries(self) -> Iterator[Entry]:
        """Raises: as `TreeSource.entries`."""
        for entry in super().entries():
            self.devices.add(entry.device)
            self.seen.add(_mark(entry.path, entry.size, entry.inode, entry.mtime_ns, entry.ctime_ns))
            yield entry


@dataclass(slots=True)
class Delta:
    """What the second pass found: entries that are new or changed, and the names in each changed directory.

    `kept` counts entries that are as the first pass saw them; `reread` files whose content was copied, `bytes` of them;
    `fuzzy` names files that changed while they were copied, though their writers were held.
    """

    spool: Spool
    entries: dict[bytes, Entry] = field(default_factory=dict)
    listings: dict[bytes, list[bytes]] = field(default_factory=dict)
    kept: int = 0
    reread: int = 0
    bytes: int = 0
    fuzzy: list[str] = field(default_factory=list)


class FrozenTree(TreeSource):
    """The second pass over the tree of a `LiveTree`; `since` is the instant before its syncfs, in nanoseconds.

    `still` is where the same tree stands still for as long as its contents are read; None for the tree itself.
    """

    def __init__(self, live: LiveTree, *, exclude: tuple[str, ...], since: int, still: str | None = None) -> None:
        super().__init__(still or live.root, label=live.label, exclude=exclude)
        self._seen, self._cutoff, self._still = live.seen, since - TICK_NS, still is not None

    def scan(self, spool: Spool) -> Delta:
        """Look at everything, copy what changed. Raises: SourceNotFound, SourceUnreadable."""
        delta = Delta(spool)
        root = self._root_entry()
        self._take(delta, root, os.stat(self.root))
        pending = [b""]
        while pending:
            pending.extend(self._directory(delta, pending.pop()))
        return delta

    def _directory(self, delta: Delta, path: bytes) -> list[bytes]:
        """One directory's entries; the directories among them."""
        below = []
        listed = self._list(path, top=not path)
        if path in delta.entries:
            delta.listings[path] = [name.rpartition(b"/")[2] for name, _ in listed]
        for child, item in listed:
            try:
                status = item.stat(follow_symlinks=False)
                self._look(delta, child, item.path, status)
            except OSError as error:
                if error.errno not in _GONE:
                    raise self._unreadable(item.path, error) from error
                continue
            if stat.S_ISDIR(status.st_mode):
                below.append(child)
        return below

    def _look(self, delta: Delta, path: bytes, full: bytes, status: os.stat_result) -> None:
        size, mtime, ctime = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        trusted = last_changed_before(mtime, self._cutoff) and last_changed_before(ctime, self._cutoff)
        if trusted and _mark(path, size, status.st_ino, mtime, ctime) in self._seen:
            delta.kept += 1
            return
        entry = self._make(path, full, status)
        if entry.kind is Kind.FILE and self._still:
            delta.reread += 1
            delta.bytes += entry.size
        elif entry.kind is Kind.FILE:
            self._copy(delta, entry, full)
        delta.entries[path] = entry

    def _take(self, delta: Delta, entry: Entry, status: os.stat_result) -> None:
        """The root: its own metadata is always taken anew."""
        entry.mtime_ns = status.st_mtime_ns
        delta.entries[b""] = entry

    def _copy(self, delta: Delta, entry: Entry, full: bytes) -> None:
        fd = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for _ in range(_TRIES):
                before = os.fstat(fd)
                entry.size, entry.mtime_ns, entry.ctime_ns = before.st_size, before.st_mtime_ns, before.st_ctime_ns
                entry.content = delta.spool.take(fd, before, self.root)
                after = os.fstat(fd)
                if (before.st_mtime_ns, before.st_ctime_ns, before.st_size) == (
                    after.st_mtime_ns,
                    after.st_ctime_ns,
                    after.st_size,
                ):
                    break
            else:
                delta.fuzzy.append(os.fsdecode(entry.path))
        finally:
            os.close(fd)
        delta.reread += 1
        delta.bytes += entry.size


class Spool:
    """Copies of what changed: a temporary file, holes as holes, and clones. Use it in a `with` block."""

    def __init__(self) -> None:
        self.cloned = 0
        self._clones: list[int] = []
        self._no_clones: set[int] = set()
        self._file = tempfile.TemporaryFile(prefix="holdfast-spool-")  # noqa: SIM115  closed by __exit__
        self._end = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        for fd in self._clones:
            os.close(fd)

    def take(self, fd: int, status: os.stat_result, root: bytes) -> Spooled:
        """A file's content as it is now: cloned into a nameless file below `root` where that works, else copied."""
        if status.st_size >= _WORTH_CLONING and status.st_dev not in self._no_clones:
            clone = self._clone(fd, root)
            if clone is not None:
                self.cloned += 1
                return Spooled(clone, 0, status.st_size)
            self._no_clones.add(status.st_dev)
        return self.copy(fd, status)

    def _clone(self, fd: int, root: bytes) -> int | None:
        if len(self._clones) >= _MOST_CLONES:
            return None
        try:
            clone = os.open(root, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            return None  # no nameless files here, or not for us: it is copied
        try:
            fcntl.ioctl(clone, _FICLONE, fd)
        except OSError:
            os.close(clone)
            return None
        self._clones.append(clone)
        return clone

    def copy(self, fd: int, status: os.stat_result) -> Spooled:
        """Copy a file's data; its place in the spool. Raises: SpoolFull, OSError of the file itself."""
        try:
            return self._copy(fd, status)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise SpoolFull(
                "no room for what changed while its writers are held",
                which=tempfile.gettempdir(),
                wanted=f"room for a file of {status.st_size:,} bytes",
                found=error.strerror,
                hint="set TMPDIR to a folder with more room; exclude what changes most",
            ) from error

    def _copy(self, fd: int, status: os.stat_result) -> Spooled:
        out, start, size = self._file.fileno(), self._end, status.st_size
        sparse = status.st_blocks * 512 < size
        for begin, end in _data_ranges(fd, size) if sparse else [(0, size)]:
            os.lseek(out, start + begin, os.SEEK_SET)
            offset = begin
            while offset < end and (count := os.sendfile(out, fd, offset, min(end - offset, _PIECE))):
                offset += count
        self._end += size
        if size:
            os.ftruncate(out, self._end)
        return Spooled(out, start, size)


@dataclass(frozen=True, slots=True)
class Spooled:
    """Content that lies in a spool."""

    fd: int
    start: int
    size: int

    def open(self) -> ByteStream:
        """A stream from the first byte."""
        return _SpoolStream(self.fd, self.start, self.start + self.size)


class _SpoolStream:
    def __init__(self, fd: int, at: int, end: int) -> None:
        self._fd, self._at, self._end = fd, at, end

    def read(self, size: int, /) -> bytes:
        piece = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(piece)
        return piece

    def close(self) -> None:
        """The spool stays open for others."""


def _data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, min(at, size)


def _mark(path: bytes, size: int, inode: int, mtime: int, ctime: int) -> bytes:
    return blake2b(b"%s\0%d %d %d %d" % (path, size, inode, mtime, ctime), digest_size=16).digest()
