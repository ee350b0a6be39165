"""A snapshot's data into a volume over the Engine's archive API, where the volume cannot be written from here.

Rules upheld here:
- The volume is new, or empty and to be kept. A new one goes when the restore cannot be finished: half of one is
  never left.
- Every blob is checked before its bytes are sent. A file of which one is damaged is left out and named: its content is
  held, in memory or a temporary file, until it is known to be whole.
- Owners are those that containers see: a rootless engine shifts them by itself.
- What this way cannot bring (holes, sockets, attributes whose value is not text) is noted.

Source: Engine API, "Extract an archive of files or folders to a directory in a container"; POSIX pax format.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from holdfast.engine.client import Engine
from holdfast.engine.helper import MOUNT, write_archive
from holdfast.engine.volumes import Volume, remove_volume
from holdfast.errors import CorruptObject, ObjectNotFound
from holdfast.model.snapshot import Snapshot
from holdfast.repository.content import stream_content
from holdfast.repository.gofields import parse_time, unix_mode
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node, link_key, link_target
from holdfast.services.extraction import Chosen
from holdfast.services.extraction_contents import Extracted
from holdfast.services.restore import OnProgress, RestoreReport, SnapshotData, open_snapshot, reading

_IN_MEMORY = 32 << 20
_PIECE = 1 << 20
_NOTE = "written over the Engine's API: holes became zeros"
_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "fifo": tarfile.FIFOTYPE,
    "chardev": tarfile.CHRTYPE,
    "dev": tarfile.BLKTYPE,
}


def restore_new_volume(
    repository: Repository,
    snapshot: Snapshot,
    engine: Engine,
    volume: Volume,
    *,
    on_progress: OnProgress | None = None,
    chosen: Chosen | None = None,
    keep: bool = False,
) -> RestoreReport:
    """Restore into a volume that was just made; with `keep` into an empty one, which then stays also after a failure.

    Raises: EngineRefused, EngineUnavailable, the store's errors.
    """
    started = time.monotonic()
    try:
        with reading(repository):
            archive = _Archive(repository, open_snapshot(repository, snapshot), on_progress, chosen)
            write_archive(engine, volume, archive.pieces())
    except BaseException:
        if not keep:
            remove_volume(engine, volume.name)
        raise
    done = archive.done
    return RestoreReport(
        snapshot=snapshot.id,
        source=snapshot.source,
        target=f"volume {volume.name}",
        files=done.files,
        directories=done.directories,
        others=done.others,
        bytes=done.bytes,
        seconds=time.monotonic() - started,
        damaged=tuple(done.damaged),
        notes=(_NOTE, *done.notes),
    )


class _Archive:
    """A snapshot's tree as a tar archive, piece by piece."""

    def __init__(
        self, repository: Repository, data: SnapshotData, on_progress: OnProgress | None, chosen: Chosen | None
    ) -> None:
        self.done = Extracted()
        self._reader, self._data = repository.reader, data
        self._tell, self._chosen = on_progress or (lambda _: None), chosen
        self._first: dict[tuple[int, int], bytes] = {}

    def pieces(self) -> Iterator[bytes]:
        """Headers and contents in the tree's order, and the end of the archive."""
        if self._data.root is not None:
            yield self._header(b"", self._data.root)
        for path, node in self._wanted():
            yield from self._member(path, node)
            self._tell(self.done)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _wanted(self) -> Iterator[tuple[bytes, Node]]:
        """What is chosen, and the directories that lead there."""
        leading: list[tuple[bytes, Node]] = []
        for path, node in walk(self._reader, self._data.tree):
            leading = [pair for pair in leading if path.startswith(pair[0] + b"/")]
            if self._chosen is None or self._chosen(path):
                yield from leading
                leading.clear()
                yield path, node
            elif node.type == "dir":
                leading.append((path, node))

    def _member(self, path: bytes, node: Node) -> Iterator[bytes]:
        if node.type not in _TYPES:
            self.done.notes.append(f"{os.fsdecode(path)}: a {node.type} cannot be written over the Engine's API")
            return
        if node.type != "file":
            self.done.directories += node.type == "dir"
            self.done.others += node.type != "dir"
            yield self._header(path, node)
            return
        link = link_key(node)
        if link is not None and link in self._first:
            yield self._header(path, node, first=self._first[link])
            self.done.files += 1
            return
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as content:
            try:
                for piece in stream_content(self._reader, node):
                    content.write(piece)
            except (CorruptObject, ObjectNotFound) as error:
                self.done.damaged.append(f"{os.fsdecode(path)}: {error}")
                return
            size = content.tell()
            content.seek(0)
            yield self._header(path, node, size=size)
            yield from _padded(content, size)
        if link is not None:
            self._first[link] = path
        self.done.files += 1
        self.done.bytes += size

    def _header(self, path: bytes, node: Node, *, size: int = 0, first: bytes | None = None) -> bytes:
        info = tarfile.TarInfo(_inside(path))
        info.type, info.size, info.mode = _TYPES[node.type], size, unix_mode(node.mode)
        info.uid, info.gid = node.uid, node.gid
        nanoseconds = parse_time(node.mtime)
        info.mtime = nanoseconds // 1_000_000_000
        info.pax_headers = self._attributes(path, node) | {
            "mtime": f"{nanoseconds // 1_000_000_000}.{nanoseconds % 1_000_000_000:09d}"
        }
        if first is not None:
            info.type, info.linkname = tarfile.LNKTYPE, _inside(first)
        elif node.type == "symlink":
            info.linkname = os.fsdecode(link_target(node))
        elif node.type in ("dev", "chardev"):
            info.devmajor, info.devminor = os.major(node.device), os.minor(node.device)
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    def _attributes(self, path: bytes, node: Node) -> dict[str, str]:
        found = {}
        for attribute in node.extended_attributes or ():
            try:
                found[f"SCHILY.xattr.{attribute.name}"] = (attribute.value or b"").decode()
            except UnicodeDecodeError:
                self.done.notes.append(f"{os.fsdecode(path)}: attribute {attribute.name} was left out")
        return found


def _inside(path: bytes) -> str:
    return os.path.join(MOUNT.strip("/"), os.fsdecode(path)).rstrip("/")


def _padded(content: IO[bytes], size: int) -> Iterator[bytes]:
    while piece := content.read(_PIECE):
        yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)
