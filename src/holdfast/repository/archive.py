"""Turning a source's entries into a tree: contents to blobs, directories to tree blobs, bottom up.

Rules upheld here:
- A file's node is that of its path in the parent snapshot where it is unchanged (`file_capture`); a parent that is
  damaged costs time, never data.
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
from holdfast.model.entry import Entry, InlineContent, Kind
from holdfast.repository.contents import ContentReader
from holdfast.repository.file_capture import FileCapture, TreeStats
from holdfast.repository.gofields import quote
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import HeldContent, LateFile, PendingFile
from holdfast.repository.reader import BlobReader
from holdfast.repository.tree import Node, encode_tree, node_from_entry
from holdfast.repository.writer import BlobWriter

_TOLD_BYTES = 16 << 20
"""Of a stream, which the caller's thread reads itself: after so many bytes progress is told."""

_MAX_WAITING = 2048
"""Closed directories that may wait for their contents before the reader waits for them."""


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
        self._on_progress = on_progress or (lambda _: None)
        self._contents = ContentReader(blobs, self._count_bytes, lambda: self._on_progress(self.stats))
        self._files = FileCapture(blobs, self._contents, self.stats, parent.taken_ns if parent else 0)
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
            directory.nodes.append(self._files.node_of(entry, directory.known.get(quote(name))))
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
                nodes.extend(self._files.finished(node))
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
            self.stats.notes.append(f"the last snapshot's tree is damaged, files below it are read again: {error}")
            return {}

    def _count_bytes(self, count: int) -> None:
        # Called from several threads: the sum serves progress and is allowed to be a little behind.
        self.stats.bytes += count
        if threading.get_ident() != self._thread:
            return
        self._untold += count  # a stream, which this thread reads chunk by chunk
        if self._untold >= _TOLD_BYTES:
            self._untold = 0
            self._on_progress(self.stats)


def _disorder(entry: Entry, found: str) -> SourceError:
    return SourceError(
        "the source gave its entries out of order",
        which=os.fsdecode(entry.path),
        wanted="depth first, names in byte order",
        found=found,
    )
