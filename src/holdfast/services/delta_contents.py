"""The contents of files in a delta restore: which blocks are right, and the others from the repository.

Rules upheld here:
- A block is believed by its SHA-256, never by the file's size or time.
- A file is written in place, unless it has names outside the target: then beside, and renamed.
- Where the repository is damaged no content is begun; a file of which a block turns out damaged is named.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from holdfast.errors import CorruptObject, HoldfastError
from holdfast.model.ids import BlobId
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node
from holdfast.services.delta_acting import Acting
from holdfast.services.delta_target import copy_beside, look, make_file, open_file
from holdfast.services.metadata import MetadataWriter
from holdfast.services.placer import Placer, Spot

WAVE = 2_000
"""Files that are looked at together: bounds memory, and still reads each pack about once."""

_THREADS = 3


@dataclass(slots=True, eq=False)
class _File:
    """One file on its way: `old` is where its content is now, `path` where it is written; equal when in place.

    `final` is its name in the end.
    """

    final: bytes
    node: Node
    old: bytes | None
    path: bytes
    old_size: int = 0
    wrong: list[tuple[BlobId, int, int]] = field(default_factory=list)
    kept: int = 0
    damaged: HoldfastError | None = None
    whole: None = None
    """See `placer.File`: each is made before, and finished after."""


class Contents:
    """Files that wait to be brought right, a wave at a time."""

    def __init__(self, repository: Repository, do: Acting) -> None:
        self._repository, self._do = repository, do
        self._waiting: list[_File] = []
        self._placer = Placer(repository, MetadataWriter())

    @property
    def waiting(self) -> int:
        """How many files wait."""
        return len(self._waiting)

    def take(self, path: bytes, node: Node, *, names: int = 1) -> None:
        """Have a file brought right with the next `write`; `names` is how many of its links may be in the target."""
        self._waiting.append(self._file(path, node, names))

    def _file(self, path: bytes, node: Node, names: int) -> _File:
        status = self._do.look(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            self._do.remove(path)
            status = None
        if status is None:
            return _File(path, node, None, path)
        new = path if status.st_nlink == names else _beside(path)
        return _File(path, node, path, new, old_size=status.st_size)

    def write(self) -> None:
        """Bring right all files that wait."""
        files, self._waiting = self._waiting, []
        with ThreadPoolExecutor(_THREADS, "delta") as pool:
            list(pool.map(self._compare, files))
        wanted: dict[BlobId, list[Spot[_File]]] = {}
        size = 0
        for file in files:
            self._begin(file)
            for blob, offset, length in file.wrong:
                # Beyond what was there the file is a hole already, if it has more blobs than this one.
                sparse = offset >= file.old_size and len(file.node.blobs) > 1
                wanted.setdefault(blob, []).append(Spot(file, offset, sparse))
                size += length
        if not self._do.dry:
            self._placer.place(wanted, size, self)
        for file in files:
            self._finish(file)

    def close(self) -> None:
        """Nothing more is to be written."""
        self._placer.close()

    # --- told by the placer, from several threads ---------------------------------------------------------------------

    def begin(self, file: _File) -> None:
        """See `placer.Told.begin`. It was made before; that it is a file that can be written is seen to here."""
        os.close(open_file(file.path, os.O_WRONLY))

    def failed(self, file: _File, error: HoldfastError) -> None:
        """See `placer.Told.failed`."""
        file.damaged = file.damaged or error

    def arrived(self, file: _File, count: int) -> None:
        """See `placer.Told.arrived`: files are finished when all are there."""

    # ------------------------------------------------------------------------------------------------------------------

    def _compare(self, file: _File) -> None:
        """Find the blocks that are not right. From several threads, each with a file of its own."""
        fd = open_file(file.old, os.O_RDONLY) if file.old is not None else None
        try:
            offset = 0
            for text in file.node.blobs:
                blob = BlobId(bytes.fromhex(text))
                where = self._repository.index.find(BlobKind.DATA, blob)
                if where is None:
                    file.damaged = CorruptObject("a blob is missing from the index", which=text[:16])
                    return
                if fd is not None and _has(fd, blob, offset, where.size):
                    file.kept += where.size
                else:
                    file.wrong.append((blob, offset, where.size))
                offset += where.size
            if offset != file.node.size:
                file.damaged = CorruptObject("a file's size differs", wanted=str(file.node.size), found=str(offset))
        finally:
            if fd is not None:
                os.close(fd)

    def _begin(self, file: _File) -> None:
        self._do.done.bytes_kept += file.kept
        if file.damaged is not None:
            file.wrong.clear()
            return
        fetched = sum(size for _, _, size in file.wrong)
        if file.wrong or file.old is None or file.old_size != file.node.size or file.path != file.final:
            self._do.done.changed += 1
            of = "" if file.old is None else f" ({len(file.wrong)} of {len(file.node.blobs)} blocks)"
            self._do.tell("write", file.final, of)
        self._do.done.bytes_fetched += fetched
        if self._do.dry:
            return
        if file.old is None:
            os.close(make_file(file.path))
        elif file.path != file.old:
            copy_beside(file.old, file.path, file.node.size)

    def _finish(self, file: _File) -> None:
        if file.damaged is not None:
            if file.path != file.old and not self._do.dry and look(file.path) is not None:
                os.unlink(file.path)
            mixed = "; what could be read of it was written" if file.wrong and file.path == file.old else ""
            self._do.damage(file.final, f"{file.damaged}{mixed}")
            return
        # What is right is not opened for writing: it may be a program that runs, or a file that nobody may change.
        as_it_was = file.path == file.old and not file.wrong and file.old_size == file.node.size
        if not self._do.dry and not as_it_was:
            fd = open_file(file.path, os.O_RDWR)
            try:
                if os.fstat(fd).st_size != file.node.size:
                    os.ftruncate(fd, file.node.size)
            finally:
                os.close(fd)
        self._do.settle(file.path if not self._do.dry else file.final, file.node)
        if file.path != file.final:
            self._do.act(lambda: os.rename(file.path, file.final))


def _has(fd: int, blob: BlobId, offset: int, size: int) -> bool:
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return len(data) == size and hashlib.sha256(data).digest() == blob


def _beside(path: bytes) -> bytes:
    return os.path.join(os.path.dirname(path), b".holdfast-delta-" + secrets.token_hex(8).encode())
