"""The contents of files that are being restored: which blobs they wait for, and what is done when the last has come.

Rules upheld here:
- A file of which one blob is damaged is not left behind half: it is removed and named.
- Files are made with O_EXCL and O_NOFOLLOW: nothing is written through a link.
- `placer` brings the bytes; what is zeros stays a hole.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.errors import CorruptObject, HoldfastError
from holdfast.model.ids import BlobId
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node
from holdfast.services.metadata import MetadataWriter
from holdfast.services.placer import Placer, Spot
from holdfast.services.placing import MAKE, make_whole

_REOPEN = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


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
    made: bool = False

    @property
    def whole(self) -> Node | None:
        """See `placer.File`. One whose size is not that of its blob is finished here, which finds that out."""
        return self.node if len(self.node.blobs) == 1 and self.length == self.node.size else None


class ContentWriter:
    """Writes the contents of the files that it was given, with their metadata; to be closed.

    Args:
        repository: where the contents are.
        metadata: what gives a file its owner, mode, times and attributes.
        done: counts what was written.
        damage: told of each file that is lost, and why.
        on_progress: told now and then what was written.
    """

    def __init__(
        self,
        repository: Repository,
        metadata: MetadataWriter,
        done: Extracted,
        damage: Callable[[bytes, str], None],
        on_progress: Callable[[Extracted], None],
    ) -> None:
        self.waiting = 0
        """Files that were given and not written yet."""
        self._repository, self._metadata, self._done, self._damage = repository, metadata, done, damage
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._wanted: dict[BlobId, list[Spot[_File]]] = {}
        self._size = 0
        self._placer = Placer(repository, metadata)

    def take(self, path: bytes, node: Node) -> None:
        """Have a file that is not there yet written with the next `write`."""
        self.waiting += 1
        file = _File(path, node, len(node.blobs))
        if not node.blobs:
            self._make_empty(file)
            return
        sparse = len(node.blobs) > 1
        for text in node.blobs:
            blob = BlobId(bytes.fromhex(text))
            self._wanted.setdefault(blob, []).append(Spot(file, file.length, sparse))
            where = self._repository.index.find(BlobKind.DATA, blob)
            file.length += where.size if where else 0
        self._size += file.length

    def write(self) -> None:
        """Write all files that wait. Raises: OSError, and the store's errors that are not about single objects."""
        wanted, size = self._wanted, self._size
        self._wanted, self._size, self.waiting = {}, 0, 0
        self._placer.place(wanted, size, self, lambda: self._on_progress(self._done))

    def close(self) -> None:
        """Nothing more is to be written."""
        self._placer.close()

    def _make_empty(self, file: _File) -> None:
        if file.node.size:
            self._damage(file.path, str(_of_another_size(file)))
            return
        make_whole(file.path, file.node, b"", self._metadata)
        self._count(file)

    # --- told by the placer, from several threads ---------------------------------------------------------------------

    def begin(self, file: _File) -> None:
        """See `placer.Told.begin`."""
        with self._lock:
            # Under the lock: of two threads with blobs of one file the second must not make it again.
            if not file.made:
                os.close(os.open(file.path, MAKE, 0o600))
                file.made = True

    def failed(self, file: _File, error: HoldfastError) -> None:
        """See `placer.Told.failed`."""
        with self._lock:
            file.damaged = file.damaged or error

    def arrived(self, file: _File, count: int) -> None:
        """See `placer.Told.arrived`. The last blob finishes its file."""
        with self._lock:
            file.missing -= count
            last = file.missing == 0
        if not last:
            return
        if file.damaged is None and file.whole is None:
            self._finish(file)
        if file.damaged is None:
            self._count(file)
        else:
            if file.made:
                os.unlink(file.path)
            self._damage(file.path, str(file.damaged))

    def _finish(self, file: _File) -> None:
        if file.length != file.node.size:
            # By the blobs, which are all there: zeros at the end would make up for what is missing, or be left out.
            file.damaged = _of_another_size(file)
            return
        fd = os.open(file.path, _REOPEN)
        try:
            if os.fstat(fd).st_size < file.length:
                # The file ends in a hole.
                os.ftruncate(fd, file.length)
            self._metadata.apply(fd, file.node)
        finally:
            os.close(fd)

    def _count(self, file: _File) -> None:
        with self._lock:
            self._done.files += 1
            self._done.bytes += file.node.size


def _of_another_size(file: _File) -> CorruptObject:
    return CorruptObject("a file's size differs", wanted=str(file.node.size), found=str(file.length))
