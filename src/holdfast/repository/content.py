"""One file of a snapshot as a stream: blobs in order, the next ones fetched while the present one is used.

Rules upheld here:
- Every blob is checked before it is handed out; a damaged one raises, the stream never ends early in silence.
- At most `_AHEAD` blobs are held.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from holdfast.errors import SnapshotNotFound
from holdfast.model.ids import BlobId
from holdfast.repository.gofields import unquote
from holdfast.repository.pack import BlobKind
from holdfast.repository.reader import BlobReader
from holdfast.repository.tree import Node

_AHEAD = 4


def stream_content(reader: BlobReader, node: Node) -> Iterator[bytes]:
    """The content of a regular file, blob by blob. Raises: CorruptObject, and the store's errors."""
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(2, "content") as pool:
        try:
            for text in node.blobs:
                pending.append(pool.submit(reader.load, BlobKind.DATA, BlobId(bytes.fromhex(text))))
                if len(pending) > _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def find_node(reader: BlobReader, tree: str, path: bytes, *, hint: str | None = None) -> Node:
    """The node at a path below a tree. Raises: SnapshotNotFound naming the part that is not there, CorruptObject."""
    node: Node | None = None
    for part in path.split(b"/"):
        subtree = tree if node is None else node.subtree
        children = {unquote(child.name): child for child in reader.load_tree(subtree)} if subtree else {}
        node = children.get(part)
        if node is None:
            raise SnapshotNotFound(
                "the snapshot does not hold this path",
                which=os.fsdecode(path),
                found=f"no {os.fsdecode(part)!r} beside {len(children)} others",
                hint=hint,
            )
    if node is None:
        raise SnapshotNotFound("an empty path names nothing in a snapshot", which=os.fsdecode(path))
    return node
