"""Reading blobs and trees back.

Rules upheld here:
- Nothing is believed before its hash was checked.
- Trees are written next to each other: a read takes a window of their pack, so that a remote store is asked once per
  megabyte and not once per directory. Memory for windows is bounded.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

from holdfast.errors import CorruptObject, UnsafeName
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import open_blob
from holdfast.repository.crypto import MasterKey
from holdfast.repository.gofields import unquote
from holdfast.repository.index import Index, Location
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import BlobKind
from holdfast.repository.tree import Node, decode_tree
from holdfast.store.base import Store

_WINDOW = 1 << 20
_WINDOWS = 24
MAX_DEPTH = 4096
"""Directories inside each other that are followed: a path longer than PATH_MAX cannot be restored anyway."""


class BlobReader:
    """Loads single blobs. Safe for threads."""

    def __init__(self, store: Store, key: MasterKey, index: Index) -> None:
        self._store, self._key, self._index = store, key, index
        self._windows: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def locate(self, kind: BlobKind, blob: BlobId) -> Location:
        """Where a blob lies. Raises: CorruptObject when no index knows it."""
        where = self._index.find(kind, blob)
        if where is None:
            raise CorruptObject(
                "a blob is missing from the index",
                which=f"{kind.word} blob {blob.hex()}",
                wanted="an entry in an index file",
                found="none",
                hint="holdfast verify --read-data names what is affected; holdfast repair index rebuilds a lost index",
            )
        return where

    def load(self, kind: BlobKind, blob: BlobId) -> bytes:
        """A blob's plaintext. Raises: CorruptObject, ObjectNotFound and the store's errors."""
        where = self.locate(kind, blob)
        stored = self._store.get(key_of(Folder.DATA, where.pack), offset=where.offset, length=where.length)
        return open_blob(self._key, stored, blob, where)

    def load_tree(self, tree: str) -> list[Node]:
        """The nodes of a tree by its hex id. Raises: as `load`."""
        blob = BlobId(bytes.fromhex(tree))
        where = self.locate(BlobKind.TREE, blob)
        plain = open_blob(self._key, self._through_window(where), blob, where)
        return decode_tree(plain, f"tree {tree[:16]} in {key_of(Folder.DATA, where.pack)}")

    def _through_window(self, where: Location) -> memoryview:
        with self._lock:
            start, data = self._windows.get(where.pack, (0, b""))
            if start <= where.offset and where.offset + where.length <= start + len(data):
                self._windows.move_to_end(where.pack)
                return memoryview(data)[where.offset - start :][: where.length]
        # Directories are stored after what they hold, siblings in order: a walk moves both ways in the pack.
        start = max(0, where.offset - _WINDOW // 2)
        end = where.offset + where.length + _WINDOW // 2
        data = self._store.get(key_of(Folder.DATA, where.pack), offset=start, length=end - start)
        with self._lock:
            self._windows[where.pack] = (start, data)
            self._windows.move_to_end(where.pack)
            while len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
        return memoryview(data)[where.offset - start :][: where.length]


def walk(reader: BlobReader, tree: str, prefix: bytes = b"") -> Iterator[tuple[bytes, Node]]:
    """Every node below a tree as (path, node), depth first, a directory before what it holds.

    Raises: UnsafeName for a name that is no plain component or comes twice; CorruptObject for a tree that is damaged,
    or nested deeper than `MAX_DEPTH`.
    """

    def below(subtree: str, path: bytes, depth: int) -> Iterator[tuple[bytes, Node]]:
        if depth >= MAX_DEPTH:
            raise CorruptObject("directories are nested too deep", which=os.fsdecode(path[:200]))
        return _children(reader, subtree, path)

    return descend(tree, prefix, below)


Below = Callable[[str, bytes, int], Iterable[tuple[bytes, Node]]]
"""What a tree holds, with the paths it gets: from the tree's id, the path of its directory, and how deep that lies."""


def descend(tree: str, path: bytes, below: Below) -> Iterator[tuple[bytes, Node]]:
    """Every node below a tree, depth first, a directory before what it holds; `below` is asked once it was passed."""
    stack = [iter(below(tree, path, 0))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        yield found
        path, node = found
        if node.type == "dir" and node.subtree:
            stack.append(iter(below(node.subtree, path, len(stack))))


def _children(reader: BlobReader, tree: str, parent: bytes) -> Iterator[tuple[bytes, Node]]:
    seen: set[bytes] = set()
    for node in reader.load_tree(tree):
        name = unquote(node.name)
        if name in seen:
            raise UnsafeName("a name comes twice in one directory", which=os.fsdecode(parent + b"/" + name))
        seen.add(name)
        yield (parent + b"/" + name if parent else name), node
