"""Checking the trees of a repository: everything that snapshots need is there, and what is lost is traced to files.

Rules upheld here:
- Every tree of every snapshot reads, every blob that a tree names is indexed, a file's blobs make up its size.
- Each tree is looked at once, however many snapshots have it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound, UnsafeName
from holdfast.model.ids import BlobId
from holdfast.model.snapshot import Snapshot
from holdfast.repository.gofields import unquote
from holdfast.repository.index import Index
from holdfast.repository.pack import BlobKind
from holdfast.repository.reader import BlobReader
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node
from holdfast.store.base import Store


@dataclass(slots=True)
class Checked:
    """What was looked at and what was found. `problems` are damage, `notices` are not; `affected` names lost files."""

    snapshots: int = 0
    trees: int = 0
    blobs: int = 0
    packs: int = 0
    packs_read: int = 0
    bytes_read: int = 0
    problems: list[HoldfastError] = field(default_factory=list)
    affected: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


class TreeCheck:
    """One look at all trees.

    Args:
        repository: whose snapshots are meant.
        store: where they are read from, past any cache.
        index: what is indexed.
        done: counts and problems, added to.
        damaged: blobs that are lost; those that are not indexed are added to it.
        on_progress: told after each snapshot.
        between: called for each tree.
    """

    def __init__(
        self,
        repository: Repository,
        store: Store,
        index: Index,
        done: Checked,
        damaged: set[tuple[BlobKind, BlobId]],
        on_progress: Callable[[Checked], None],
        between: Callable[[], None],
    ) -> None:
        self.done = done
        self.misfits = False
        """Whether a file was seen whose blobs do not make up its size."""
        self._repository, self._index, self._damaged = repository, index, damaged
        self._reader = BlobReader(store, repository.key, index)
        self._on_progress, self._between = on_progress, between
        self._snapshots: tuple[Snapshot, ...] = ()

    def check(self) -> None:
        """Every tree of every snapshot, each once. Raises: errors of the store that are not about single objects."""
        listed = self._repository.snapshots()
        self._snapshots = listed.snapshots
        self.done.snapshots = len(listed.snapshots)
        self.done.problems.extend(listed.damaged)
        seen: set[str] = set()
        for snapshot in listed.snapshots:
            self._check_tree(snapshot.tree, seen)
            self._on_progress(self.done)

    def _check_tree(self, root: str, seen: set[str]) -> None:
        waiting = [root]
        while waiting:
            tree = waiting.pop()
            if tree in seen:
                continue
            seen.add(tree)
            self.done.trees += 1
            self._between()
            try:
                nodes = self._reader.load_tree(tree)
                for node in nodes:
                    unquote(node.name)
            except (CorruptObject, ObjectNotFound, UnsafeName) as error:
                self.done.problems.append(error)
                self._damaged.add((BlobKind.TREE, BlobId(bytes.fromhex(tree))))
                continue
            for node in nodes:
                self._check_blobs(node, tree)
            waiting.extend(node.subtree for node in nodes if node.subtree)

    def _check_blobs(self, node: Node, tree: str) -> None:
        for text in node.blobs:
            blob = BlobId(bytes.fromhex(text))
            if not self._index.has(BlobKind.DATA, blob) and (BlobKind.DATA, blob) not in self._damaged:
                self._damaged.add((BlobKind.DATA, blob))
                try:
                    self._reader.locate(BlobKind.DATA, blob)
                except CorruptObject as error:
                    self.done.problems.append(error)
        size = self._size_by_blobs(node)
        if size is not None and size != node.size:
            self.misfits = True
            which = f"{node.name} in tree {tree[:16]}"
            self.done.problems.append(
                CorruptObject(
                    "a file's size differs", which=which, wanted=f"{node.size} bytes", found=f"{size} in its blobs"
                )
            )

    def _size_by_blobs(self, node: Node) -> int | None:
        """Bytes of all blobs of a file; None for what is no file, and where one is not known."""
        places = [self._index.find(BlobKind.DATA, BlobId(bytes.fromhex(text))) for text in node.blobs]
        if node.type != "file" or None in places:
            return None
        return sum(place.size for place in places if place is not None)

    def trace(self) -> None:
        """Name the files that need what is damaged."""
        for snapshot in self._snapshots:
            stack = [(b"", snapshot.tree)]
            while stack:
                parent, tree = stack.pop()
                if (BlobKind.TREE, BlobId(bytes.fromhex(tree))) in self._damaged:
                    self._affect(snapshot, parent + b"/ (and all below it)")
                    continue
                for node in self._reader.load_tree(tree):
                    path = parent + b"/" + unquote(node.name)
                    if self._is_lost(node):
                        self._affect(snapshot, path)
                    if node.subtree:
                        stack.append((path, node.subtree))

    def _is_lost(self, node: Node) -> bool:
        if any((BlobKind.DATA, BlobId(bytes.fromhex(blob))) in self._damaged for blob in node.blobs):
            return True
        return self.misfits and self._size_by_blobs(node) not in (None, node.size)

    def _affect(self, snapshot: Snapshot, path: bytes) -> None:
        self.done.affected.append(f"{snapshot.short_id} {snapshot.source}: {os.fsdecode(path)}")
