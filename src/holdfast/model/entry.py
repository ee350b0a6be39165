"""What a source hands to the repository writer: one entry per file, directory or other node, with its content.

Rules upheld here:
- Entries come depth first, a directory before what it holds, the names of one directory in byte order.
- Paths are bytes, relative to the source's root, `/`-separated; the root itself is the empty path and comes first.
- A content that ends early without an error never exists: a stream raises before its last `read` returns b"" when the
  producer failed (exit status, vanished container, short read).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """File types, by restic's names (doc/design.rst, "Trees and Data")."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARDEV = "chardev"
    BLOCKDEV = "dev"


class ByteStream(Protocol):
    """Bytes in order, once."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; b"" only at the end, and only after success of the producer was seen.

        Raises: SourceError (DumpFailed, CommandFailed, SourceUnreadable) when the producer failed.
        """
        ...

    def close(self) -> None:
        """Stop the producer if it still works, and wait until it is gone."""
        ...


class Conversation(ByteStream, Protocol):
    """A program whose input and output are open at the same time."""

    def send(self, data: bytes) -> None:
        """Write to its input. Raises: OSError when it is gone."""
        ...


class Content(Protocol):
    """What can be opened to read a regular file's bytes."""

    def open(self) -> ByteStream:
        """A new stream from the first byte."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Content that is a file of this machine: the writer reads it by itself, in parallel and in batches."""

    path: bytes

    def open(self) -> ByteStream:
        """The file, unbuffered."""
        return open(self.path, "rb", buffering=0)


@dataclass(frozen=True, slots=True)
class InlineContent:
    """Content that is already in memory: manifests, small facts."""

    data: bytes

    def open(self) -> ByteStream:
        """The bytes as a stream."""
        import io

        return io.BytesIO(self.data)


@dataclass(slots=True)
class LateContent:
    """Content that is known only when all entries were given; None then means that there is no such file."""

    data: bytes | None = None
    known: bool = False

    def settle(self, data: bytes | None) -> None:
        """Say what it is."""
        self.data, self.known = data, True

    def open(self) -> ByteStream:
        """The bytes as a stream. Raises: ValueError while they are not known."""
        import io

        if not self.known or self.data is None:
            raise ValueError("a late content was asked for too early")
        return io.BytesIO(self.data)


@dataclass(slots=True)
class Entry:
    """One node with its metadata.

    `mode` holds the 12 permission bits (0o7777) ; `kind` holds the type. Times are nanoseconds since the Unix epoch.
    `inode`, `device` and `links` are 0 where the source has none; two FILE entries with `links` > 1 and equal
    (`device`, `inode`) are hard links to one file. `size` is 0 where it is not known beforehand (a stream).
    `cut` asks for blobs of exactly so many bytes instead of content-defined ones: for files that are rewritten in
    place, page by page. `fuzzy` tells that it may change while it is read and that something else makes it whole (a
    database's log): it is read once, and nothing is noted. `inspect` sees its bytes with their offset on the way, from
    several threads; a part of a file that is not read again is not seen.
    """

    path: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    device: int = 0
    links: int = 1
    rdev: int = 0
    link_target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    content: Content | None = None
    cut: int = 0
    fuzzy: bool = False
    inspect: Callable[[int, memoryview], None] | None = None


_SECOND_NS = 1_000_000_000
_COARSE_NS = 2 * _SECOND_NS


def last_changed_before(time_ns: int, instant_ns: int) -> bool:
    """Whether what bears this time was surely not changed at or after an instant, however coarse times are kept.

    A whole second may be all that the filesystem keeps (ext4 with small inodes, zfs-fuse, some NFS servers; FAT keeps
    every second one): then a change up to two seconds later bears the same time.
    """
    return time_ns < instant_ns - _COARSE_NS or (time_ns < instant_ns and time_ns % _SECOND_NS != 0)


class Source(Protocol):
    """One thing that can be captured."""

    @property
    def label(self) -> str:
        """What it is, for people and for grouping: `volume:app-data`, `path:/srv/www`, `postgres:app-db`."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """After the entries: what could not be captured and what changed while it was read, one line each."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Capture: entries in path order. Each belongs to whoever receives it, who may change it.

        Raises: SourceNotFound, SourceUnreadable, DumpFailed, CommandFailed — before anything is committed.
        """
        ...

    def facts(self) -> Mapping[str, object]:
        """After the entries: what a drill later compares, as plain JSON data (row counts and digests, versions)."""
        ...


class CommandRunner(Protocol):
    """Runs programs where they live: in a database's own container, or on this machine.

    `argv` is a list, never a shell line; `env` is passed beside it so that no secret is in a process list.
    """

    @property
    def where(self) -> str:
        """The place, for messages: `container app-db`, `this machine`."""
        ...

    def stream(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> ByteStream:
        """Start a program and read its standard output; the last read raises CommandFailed unless it exited with 0."""
        ...

    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: Iterable[bytes] | None = None
    ) -> bytes:
        """Run a program to its end, feeding `stdin`, and give its standard output. Raises: CommandFailed."""
        ...
