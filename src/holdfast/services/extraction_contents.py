"""The contents of files that are being restored: each range of a pack is read once, and written to whichever need it.

Rules upheld here:
- Every blob is checked before its bytes are written. A file of which one blob is damaged is not left behind half: it
  is removed and named.
- Files are made with O_EXCL and O_NOFOLLOW: nothing is written through a link.
- Blobs are written from several threads, those that touch in one write; what is zeros stays a hole.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from holdfast.errors import CorruptObject, HoldfastError
from holdfast.model.ids import BlobId
from holdfast.repository.extract import Delivered, read_blobs
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node
from holdfast.services.metadata import MetadataWriter
from holdfast.store.base import Bytes

_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REOPEN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 128
"""Files with several blobs that stay open between two of them: most are whole again before another is begun."""
_MOST_PIECES = 1024
"""Of one write: IOV_MAX of Linux."""
_ZEROS = bytes(1 << 20)

Part = tuple[int, Bytes]
"""Where in a file something belongs, and what."""


@dataclass(slots=True)
class Extracted:
    """What was written: counts, bytes of content, what is damaged (path: why), and what could not be set."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _File:
    path: bytes
    node: Node
    missing: int
    length: int = 0
    damaged: HoldfastError | None = None
    started: bool = False
    fd: int | None = None
    busy: int = 0


class ContentWriter:
    """Writes the contents of the files that it was given, with their metadata.

    Args:
        repository: where the contents are.
        metadata: what gives a file its owner, mode, times and attributes.
        done: counts what was written.
        damage: told of each file that is lost, and why.
    """

    def __init__(
        self,
        repository: Repository,
        metadata: MetadataWriter,
        done: Extracted,
        damage: Callable[[bytes, str], None],
    ) -> None:
        self.waiting = 0
        """Files that were given and not written yet."""
        self._repository, self._metadata, self._done, self._damage = repository, metadata, done, damage
        self._lock = threading.Lock()
        self._wanted: dict[BlobId, list[tuple[_File, int]]] = {}
        self._open: set[_File] = set()

    def take(self, path: bytes, node: Node) -> None:
        """Have a file that is not there yet written with the next `write`."""
        self.waiting += 1
        file = _File(path, node, len(node.blobs))
        if not node.blobs:
            self._write_whole(file, b"")
            return
        for text in node.blobs:
            blob = BlobId(bytes.fromhex(text))
            self._wanted.setdefault(blob, []).append((file, file.length))
            where = self._repository.index.find(BlobKind.DATA, blob)
            file.length += where.size if where else 0

    # --- contents, from several threads -------------------------------------------------------------------------------

    def write(self) -> None:
        """Write all files that wait. Raises: OSError, and the store's errors that are not about single objects."""
        wanted, self._wanted, self.waiting = self._wanted, {}, 0
        try:
            read_blobs(
                self._repository,
                wanted,
                lambda found: self._deliver(wanted, found),
                lambda blob, error: self._fail(wanted[blob], error),
            )
        finally:
            # Empty unless reading stopped half-way.
            for file in self._open:
                if file.fd is not None:
                    os.close(file.fd)
            self._open.clear()

    def _deliver(self, wanted: dict[BlobId, list[tuple[_File, int]]], found: Delivered) -> None:
        parts: dict[_File, list[Part]] = {}
        for blob, data in found:
            zeros: bool | None = None
            for file, offset in wanted[blob]:
                if len(file.node.blobs) == 1:
                    self._write_whole(file, data)
                    continue
                if zeros is None:
                    zeros = is_zeros(data)
                parts.setdefault(file, []).append((offset, b"" if zeros else data))
        for file, pieces in parts.items():
            self._write_parts(file, pieces)

    def _write_whole(self, file: _File, data: Bytes) -> None:
        """A file of one blob, which no other thread knows: made, written and finished in one go."""
        fd = os.open(file.path, _MAKE, 0o600)
        file.started = True
        try:
            write_at(fd, [data], 0)
            self._finish_file(file, fd)
        finally:
            os.close(fd)
        self._count(file)

    def _write_parts(self, file: _File, parts: list[Part]) -> None:
        with self._lock:
            # Opened under the lock: of two threads with blobs of one file the second must not make it again.
            if file.fd is None:
                file.fd = os.open(file.path, _REOPEN if file.started else _MAKE, 0o600)
                file.started = True
                self._open.add(file)
            file.busy += 1
            fd = file.fd
        try:
            for offset, pieces in joined(parts):
                write_at(fd, pieces, offset)
        finally:
            self._arrived(file, len(parts))

    def _fail(self, targets: list[tuple[_File, int]], error: HoldfastError) -> None:
        for file, _ in targets:
            with self._lock:
                file.damaged = file.damaged or error
                file.busy += 1
            self._arrived(file, 1)

    def _arrived(self, file: _File, count: int) -> None:
        """So many blobs less to wait for. The last finishes the file; a file that waits long is closed until then."""
        with self._lock:
            file.missing -= count
            file.busy -= 1
            last = file.missing == 0
            fd = file.fd
            if not last and (fd is None or file.busy or len(self._open) <= _KEPT_OPEN):
                return
            file.fd = None
            self._open.discard(file)
        try:
            if last and fd is not None and file.damaged is None:
                self._finish_file(file, fd)
        finally:
            if fd is not None:
                os.close(fd)
        if last:
            self._count(file)

    def _finish_file(self, file: _File, fd: int) -> None:
        if file.length != file.node.size:
            # By the blobs, which are all there: zeros at the end would make up for what is missing, or be left out.
            file.damaged = CorruptObject("a file's size differs", wanted=str(file.node.size), found=str(file.length))
        elif os.fstat(fd).st_size < file.length:
            # The file ends in a hole.
            os.ftruncate(fd, file.length)
        self._metadata.apply(fd, file.node)

    def _count(self, file: _File) -> None:
        if file.damaged is not None:
            self._drop(file)
            return
        with self._lock:
            self._done.files += 1
            self._done.bytes += file.node.size

    def _drop(self, file: _File) -> None:
        if file.started:
            os.unlink(file.path)
        self._damage(file.path, str(file.damaged))


def is_zeros(data: Bytes) -> bool:
    """Whether it may stay a hole. Compared with zeros in large pieces: looking for another byte one by one is slow."""
    if data and data[0]:
        return False
    # As bytes: a view is compared one byte after the other.
    return all(
        bytes(data[at : at + len(_ZEROS)]) == _ZEROS[: len(data) - at] for at in range(0, len(data), len(_ZEROS))
    )


def joined(parts: Sequence[Part]) -> Iterator[tuple[int, list[Bytes]]]:
    """Parts of a file, those that touch put together, so that a write takes many; no order."""
    run: list[Bytes] = []
    start = end = 0
    for offset, data in sorted(parts, key=itemgetter(0)):
        if run and offset == end:
            run.append(data)
        else:
            if run:
                yield start, run
            run, start = [data], offset
        end = offset + len(data)
    if run:
        yield start, run


def write_at(fd: int, pieces: Sequence[Bytes], offset: int) -> None:
    """Write all of these, one behind the other, from an offset on."""
    for first in range(0, len(pieces), _MOST_PIECES):
        left = deque(memoryview(piece) for piece in pieces[first : first + _MOST_PIECES])
        while left:
            written = os.pwritev(fd, left, offset)
            offset += written
            while left and written >= len(left[0]):
                written -= len(left.popleft())
            if written:
                left[0] = left[0][written:]
