"""Reading many blobs at once: each range of a pack is fetched once, in parallel.

Rules upheld here:
- A pack that is missing fails its blobs, and takes no other with it. What the bytes are worth is seen by who gets them.
- As many threads wait for the store as it has connections.
- Memory holds one range per thread; neighbours in a pack come in one read when the gap is cheaper than a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from typing import NamedTuple

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound
from holdfast.model.ids import BlobId
from holdfast.repository.index import Location
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.shared import SharedBuffers, Slot
from holdfast.store.base import Bytes, FillsBuffers, Store

MAX_RANGE = 8 << 20
"""Bytes of a pack that are read at once; a blob that is larger is read alone."""
_MAX_GAP = 256 << 10
_MANY = 32
"""Blobs of one range from which on it counts as one of small blobs."""


class Piece(NamedTuple):
    """One blob to read, and where it lies."""

    blob: BlobId
    where: Location


class Fetched(NamedTuple):
    """A range of a pack that was read: what it holds of what is wanted, and its bytes (fewer where the pack ends).

    `slot` says where among shared buffers the bytes lie, None when they lie elsewhere.
    """

    pieces: list[Piece]
    data: Bytes
    slot: int | None

    def stored(self, piece: Piece) -> memoryview:
        """The stored bytes of one piece."""
        at = piece.where.offset - self.pieces[0].where.offset
        return memoryview(self.data)[at : at + piece.where.length]


Fail = Callable[[BlobId, HoldfastError], None]


def read_ranges(
    repository: Repository,
    wanted: Iterable[BlobId],
    handle: Callable[[Fetched], None],
    fail: Fail,
    buffers: SharedBuffers | None = None,
    after_each: Callable[[], None] = lambda: None,
) -> None:
    """Read the ranges of packs that hold data blobs, each once, into `buffers` as far as they fit, for `handle` to use.

    What was read is `handle`'s until it returns. It and `fail` are called from several threads, `after_each` from the
    caller's own after each range.

    Raises: what `handle` raises, and errors of the store that are not about single objects (StoreUnavailable,
    StoreDenied); then the rest is not read.
    """
    pieces = []
    for blob in dict.fromkeys(wanted):
        try:
            pieces.append(Piece(blob, repository.reader.locate(BlobKind.DATA, blob)))
        except CorruptObject as error:
            fail(blob, error)

    def read(group: list[Piece]) -> None:
        with ExitStack() as stack:
            slot = stack.enter_context(buffers.slot()) if buffers is not None else None
            fetched = _fetch(repository.store, group, slot, fail)
            if fetched is not None:
                handle(fetched)

    with ThreadPoolExecutor(repository.connections, "extract") as pool:
        futures = [pool.submit(read, group) for group in mixed(group_ranges(pieces))]
        try:
            for future in as_completed(futures):
                future.result()
                after_each()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def group_ranges(pieces: list[Piece]) -> list[list[Piece]]:
    """Pieces of one pack that lie close together, in groups of at most 8 MiB (one blob may be larger)."""
    first_seen = {pack: position for position, pack in enumerate(dict.fromkeys(piece.where.pack for piece in pieces))}
    groups: list[list[Piece]] = []
    start = end = 0
    for piece in sorted(pieces, key=lambda piece: (first_seen[piece.where.pack], piece.where.offset)):
        where = piece.where
        near = groups and groups[-1][0].where.pack == where.pack and where.offset - end <= _MAX_GAP
        if near and where.offset + where.length - start <= MAX_RANGE:
            groups[-1].append(piece)
        else:
            groups.append([piece])
            start = where.offset
        end = where.offset + where.length
    return groups


def mixed(groups: list[list[Piece]]) -> list[list[Piece]]:
    """The same groups, those of many small blobs spread evenly among the others.

    Small blobs keep the interpreter busy, large ones the libraries beside it: one of each at a time uses both cores.
    """
    rank: dict[bool, int] = {}
    count = Counter(len(group) >= _MANY for group in groups)
    places = []
    for number, group in enumerate(groups):
        small = len(group) >= _MANY
        rank[small] = rank.get(small, 0) + 1
        places.append(((rank[small] - 0.5) / count[small], number))
    return [groups[number] for _, number in sorted(places)]


def _fetch(store: Store, group: list[Piece], slot: Slot | None, fail: Fail) -> Fetched | None:
    """The bytes of a group; None, and each of its blobs failed, where its pack is missing."""
    first, last = group[0].where, group[-1].where
    key, start, length = key_of(Folder.DATA, first.pack), first.offset, last.offset + last.length - first.offset
    try:
        if slot is None or length > len(slot.buffer):
            return Fetched(group, store.get(key, offset=start, length=length), None)
        if isinstance(store, FillsBuffers):
            came = store.get_into(key, slot.buffer[:length], offset=start)
        else:
            data = store.get(key, offset=start, length=length)
            came = len(data)
            slot.buffer[:came] = data
    except ObjectNotFound as error:
        for piece in group:
            fail(piece.blob, error)
        return None
    return Fetched(group, slot.buffer[:came], slot.number)
