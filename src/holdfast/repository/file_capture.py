"""Files on their way into a tree: which are read, which are as they were, which are further names of one met before.

Rules upheld here:
- Unchanged files are not read: a file counts as unchanged only if size, inode, mtime and ctime are those of the parent
  snapshot's node, neither time is at or after the instant before the parent's capture began (it may have been written
  while it was read; `last_changed_before` knows of coarse times), and the repository still has all its blobs.
- A name of a file that was met before takes that one's content only while it is the same file.
- What could not be read, vanished, or never held still is a note.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast.errors import SourceError
from holdfast.model.entry import Entry, InlineContent, LateContent, LocalFile, last_changed_before
from holdfast.model.ids import BlobId
from holdfast.repository.contents import ContentReader
from holdfast.repository.gofields import format_time, parse_time
from holdfast.repository.links import FirstLink, Link
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import HeldContent, LateFile, PendingFile
from holdfast.repository.tree import Node, node_from_entry
from holdfast.repository.writer import BlobWriter

RACY_MARGIN_NS = 50_000_000
"""The kernel stamps files with a clock that lags behind by up to a tick: times this close to the capture are not
trusted."""


@dataclass(slots=True)
class TreeStats:
    """What was seen: counts of entries, bytes of content (apparent), and what went wrong, one line each.

    What Holdfast adds itself (inline contents) is not counted among the files.
    """

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)
    unreadable: int = 0

    @property
    def files(self) -> int:
        """Regular files in the tree."""
        return self.files_new + self.files_changed + self.files_unmodified


class FileCapture:
    """The regular files of one capture.

    Args:
        blobs: where contents are saved, and what tells which are there.
        contents: reads them.
        stats: what was seen, counted here.
        parent_ns: the instant before the parent snapshot's capture began; 0 without one.
    """

    def __init__(self, blobs: BlobWriter, contents: ContentReader, stats: TreeStats, parent_ns: int) -> None:
        self.stats = stats
        self._blobs, self._contents = blobs, contents
        self._cutoff = parent_ns - RACY_MARGIN_NS if parent_ns else 0
        self._links: dict[tuple[int, int], FirstLink] = {}

    def node_of(self, entry: Entry, before: Node | None) -> Node | PendingFile:
        """The node, or what becomes it. `before` is the parent's node of this path. Raises: SourceError."""
        if entry.links <= 1:
            return self._capture(entry, before)
        inode = (entry.device, entry.inode)
        first = self._links.get(inode)
        if first is None:
            found = self._capture(entry, before)
            self._links[inode] = FirstLink(found, entry)
            return found
        if isinstance(entry.content, LocalFile) and (entry.size, entry.mtime_ns) != first.seen:
            # Another file by now (inode numbers are used again), or one that changed: never the first one's content.
            entry.links = 1
            return self._capture(entry, before)
        first.left -= 1
        if first.left == 0:
            del self._links[inode]
        return self._linked(entry, first)

    def finished(self, pending: PendingFile) -> Iterator[Node]:
        """The node of a file whose content is there; none of one that is gone. Raises: what reading it raised."""
        captured = pending.result()
        if isinstance(pending, Link) and not pending.is_same:
            pending.entry.links = 1
            own = self._contents.read(pending.entry)
            self._contents.flush()
            captured = own.result()
        path = os.fsdecode(pending.entry.path)
        if captured.absent or (captured.vanished and pending.entry.fuzzy):
            return
        if captured.vanished:
            self.stats.notes.append(f"{path}: vanished while it was read")
        elif captured.problem:
            self.stats.unreadable += 1
            self.stats.notes.append(f"{path}: cannot be read: {captured.problem}")
        else:
            if captured.changed:
                self.stats.notes.append(f"{path}: changed while it was read, three times; its copy may mix old and new")
            self._remember(pending.entry, captured.content)
            yield node_from_entry(pending.entry, content=captured.content)

    def _capture(self, entry: Entry, before: Node | None) -> Node | PendingFile:
        if before is not None and self._unchanged(entry, before):
            self.stats.files_unmodified += 1
            self.stats.bytes += entry.size
            return node_from_entry(entry, content=before.blobs)
        if isinstance(entry.content, InlineContent):
            return node_from_entry(entry, content=self._inline(entry, entry.content.data))
        if before is None or before.type != "file":
            self.stats.files_new += 1
        else:
            self.stats.files_changed += 1
        if entry.content is None:
            raise SourceError("a file came without its content", which=os.fsdecode(entry.path))
        if isinstance(entry.content, LateContent):
            return LateFile(entry, entry.content, lambda data: self._blobs.save(BlobKind.DATA, data).hex())
        if isinstance(entry.content, HeldContent):
            return entry.content.pending
        return self._contents.read(entry)

    def _inline(self, entry: Entry, data: bytes) -> list[str]:
        entry.size = len(data)
        return [self._blobs.save(BlobKind.DATA, data).hex()] if data else []

    def _linked(self, entry: Entry, first: FirstLink) -> Node | PendingFile:
        """A further hard link: the content of the first, without reading it again."""
        self.stats.files_unmodified += 1
        if first.pending is not None:
            return Link(entry, first.pending)
        entry.size = first.size
        return node_from_entry(entry, content=first.content)

    def _unchanged(self, entry: Entry, before: Node) -> bool:
        return (
            before.type == "file"
            and before.size == entry.size
            and before.inode == entry.inode != 0
            and last_changed_before(entry.mtime_ns, self._cutoff)
            and last_changed_before(entry.ctime_ns, self._cutoff)
            and _same_time(before.mtime, entry.mtime_ns)
            and _same_time(before.ctime, entry.ctime_ns)
            and all(self._blobs.has(BlobKind.DATA, BlobId(bytes.fromhex(blob))) for blob in before.blobs)
        )

    def _remember(self, entry: Entry, content: list[str]) -> None:
        """A file with more links than were met is remembered by its blobs alone: there may be millions of them."""
        first = self._links.get((entry.device, entry.inode)) if entry.links > 1 else None
        if first is not None:
            first.settle(entry.size, content)


def _same_time(text: str, ns: int) -> bool:
    return text == format_time(ns) or parse_time(text) == ns
