"""Turning a source's entries into a tree: contents to blobs, directories to tree blobs, bottom up.

Rules upheld here:
- Unchanged files are not read: a file counts as unchanged only if size, inode, mtime and ctime are those of the parent
  snapshot's node, neither time is at or after the instant before the parent's capture began (it may have been written
  while it was read; `last_changed_before` knows of coarse times), and the repository still has all its blobs.
- Memory holds the directories on the path to the present entry and a bounded tail of those waiting for their contents.
- Entries out of order, or twice, are a fault of the source and stop the run.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from holdfast.errors import CorruptObject, SourceError
from holdfast.model.entry import Entry, InlineContent, Kind, LateContent, LocalFile, last_changed_before
from holdfast.model.ids import BlobId
from holdfast.repository.contents import ContentReader
from holdfast.repository.gofields import format_time, parse_time, quote
from holdfast.repository.links import FirstLink, Link
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import HeldContent, LateFile, PendingFile
from holdfast.repository.reader import BlobReader
from holdfast.repository.tree import Node, encode_tree, node_from_entry
from holdfast.repository.writer import BlobWriter

RACY_MARGIN_NS = 50_000_000
"""The kernel stamps files with a clock that lags behind by up to a tick: times this close to the capture are not
trusted."""

_TOLD_BYTES = 16 << 20
"""Of a stream, which the caller's thread reads itself: after so many bytes progress is told."""

_MAX_WAITING = 2048
"""Closed directories that may wait for their contents before the reader waits for them."""


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


@dataclass(frozen=True, slots=True)
class Parent:
    """The snapshot to compare with: its root tree, and the instant before its capture began (ns)."""

    tree: str
    taken_ns: int


@dataclass(slots=True, eq=False)
class _Directory:
    entry: Entry
    known: dict[str, Node]
    nodes: list[Node | PendingFile | None] = field(default_factory=list)
    above: _Directory | None = None
    slot: int = 0
    last_name: bytes = b""


class TreeArchiver:
    """Receives entries in path order through `add`; `finish` gives the root tree's id."""

    def __init__(
        self,
        blobs: BlobWriter,
        reader: BlobReader,
        parent: Parent | None = None,
        on_progress: Callable[[TreeStats], None] | None = None,
    ) -> None:
        self.stats = TreeStats()
        self._blobs = blobs
        self._reader = reader
        self._cutoff = parent.taken_ns - RACY_MARGIN_NS if parent else 0
        self._on_progress = on_progress or (lambda _: None)
        self._contents = ContentReader(blobs, self._count_bytes, lambda: self._on_progress(self.stats))
        self._links: dict[tuple[int, int], FirstLink] = {}
        root = _Directory(Entry(b"", Kind.DIR), self._known(parent.tree if parent else ""))
        self._stack = [root]
        self._closing: deque[_Directory] = deque()
        self._count = 0
        self._thread, self._untold = threading.get_ident(), 0

    def add(self, entry: Entry) -> None:
        """Take the next entry. A stream's content is read to its end before this returns.

        Raises: SourceError when the order is broken or the source failed; the first failure of any worker.
        """
        parent_path, _, name = entry.path.rpartition(b"/")
        while self._stack[-1].entry.path != parent_path:
            if len(self._stack) == 1:
                raise _disorder(entry, "its directory was not announced before it")
            self._close()
        directory = self._stack[-1]
        if name <= directory.last_name:
            raise _disorder(entry, f"it came after {os.fsdecode(directory.last_name)!r}")
        directory.last_name = name
        self._count += 1
        if self._count % 512 == 0:
            self._settle(wait=False)
        if self._count % 32 == 0:
            self._on_progress(self.stats)
        if entry.kind is Kind.DIR:
            self._open(entry, directory)
        elif entry.kind is Kind.FILE:
            directory.nodes.append(self._file(entry, directory.known.get(quote(name))))
        else:
            self.stats.others += 1
            directory.nodes.append(node_from_entry(entry))

    def in_order(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Entries that come in any order, put in order: contents are read as they come, entries are held until the end.

        For streams that are not sorted. Memory holds every entry, and the ids of its blobs.
        """
        held = []
        for entry in entries:
            if entry.kind is Kind.FILE and entry.content is not None and not isinstance(entry.content, InlineContent):
                entry.content = HeldContent(self._contents.read(entry))
            held.append(entry)
        held.sort(key=lambda entry: entry.path.split(b"/"))
        yield from held

    def drain(self) -> None:
        """Wait until the contents of all entries so far were read; directories stay open."""
        self._contents.flush()
        self._contents.wait()
        for directory in (*self._closing, *self._stack):
            for node in directory.nodes:
                if isinstance(node, PendingFile) and not isinstance(node, LateFile):
                    node.result()

    def settle(self) -> None:
        """Close all directories and wait for their contents: afterwards `stats` tells everything."""
        self._close_all()

    def finish(self, before: Sequence[Entry] = ()) -> str:
        """Close all directories and wait for their contents; the hex id of the root tree.

        `before` are entries that are known last and sort before all others: what a capture says of itself.
        """
        self._close_all()
        root = self._stack[0]
        others, root.nodes, root.last_name = root.nodes, [], b""
        for entry in before:
            self.add(entry)
        self._close_all()
        root.nodes.extend(others)
        self._on_progress(self.stats)
        return self._save_tree(root)

    def _close_all(self) -> None:
        while len(self._stack) > 1:
            self._close()
        self._settle(wait=True)

    # --- directories --------------------------------------------------------------------------------------------------

    def _open(self, entry: Entry, above: _Directory) -> None:
        self.stats.directories += 1
        node = above.known.get(quote(entry.path.rpartition(b"/")[2]))
        known = self._known(node.subtree if node and node.type == "dir" else "")
        above.nodes.append(None)
        self._stack.append(_Directory(entry, known, above=above, slot=len(above.nodes) - 1))

    def _close(self) -> None:
        self._closing.append(self._stack.pop())
        if len(self._closing) >= _MAX_WAITING:
            self._settle_first()

    def _settle(self, *, wait: bool) -> None:
        """Write the trees of closed directories whose contents are there; with `wait`, of all of them."""
        if wait:
            self._contents.flush()
            self._contents.wait()
        while self._closing and (wait or self._ready(self._closing[0])):
            self._settle_first()

    def _ready(self, directory: _Directory) -> bool:
        return all(not isinstance(node, PendingFile) or node.done() for node in directory.nodes)

    def _settle_first(self) -> None:
        directory = self._closing.popleft()
        tree = self._save_tree(directory)
        if directory.above is not None:
            directory.above.nodes[directory.slot] = node_from_entry(directory.entry, subtree=tree)

    def _save_tree(self, directory: _Directory) -> str:
        nodes: list[Node] = []
        for node in directory.nodes:
            if isinstance(node, PendingFile):
                if not node.submitted:
                    self._contents.flush()
                nodes.extend(self._finished(node))
            elif node is not None:
                nodes.append(node)
        directory.nodes = []
        return self._blobs.save(BlobKind.TREE, encode_tree(nodes)).hex()

    def _known(self, tree: str) -> dict[str, Node]:
        if not tree:
            return {}
        try:
            return {node.name: node for node in self._reader.load_tree(tree)}
        except CorruptObject as error:
            # A damaged parent costs time, not data: everything below it is read again.
            self._note(f"the last snapshot's tree is damaged, files below it are read again: {error}")
            return {}

    # --- files --------------------------------------------------------------------------------------------------------

    def _file(self, entry: Entry, before: Node | None) -> Node | PendingFile:
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

    def _finished(self, pending: PendingFile) -> Iterator[Node]:
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
            self._note(f"{path}: vanished while it was read")
        elif captured.problem:
            self.stats.unreadable += 1
            self._note(f"{path}: cannot be read: {captured.problem}")
        else:
            if captured.changed:
                self._note(f"{path}: changed while it was read, three times; its copy may mix old and new")
            self._remember(pending.entry, captured.content)
            yield node_from_entry(pending.entry, content=captured.content)

    def _remember(self, entry: Entry, content: list[str]) -> None:
        """A file with more links than were met is remembered by its blobs alone: there may be millions of them."""
        first = self._links.get((entry.device, entry.inode)) if entry.links > 1 else None
        if first is not None:
            first.settle(entry.size, content)

    def _note(self, line: str) -> None:
        self.stats.notes.append(line)

    def _count_bytes(self, count: int) -> None:
        # Called from several threads: the sum serves progress and is allowed to be a little behind.
        self.stats.bytes += count
        if threading.get_ident() != self._thread:
            return
        self._untold += count  # a stream, which this thread reads chunk by chunk
        if self._untold >= _TOLD_BYTES:
            self._untold = 0
            self._on_progress(self.stats)


def _same_time(text: str, ns: int) -> bool:
    return text == format_time(ns) or parse_time(text) == ns


def _disorder(entry: Entry, found: str) -> SourceError:
    return SourceError(
        "the source gave its entries out of order",
        which=os.fsdecode(entry.path),
        wanted="depth first, names in byte order",
        found=found,
    )
