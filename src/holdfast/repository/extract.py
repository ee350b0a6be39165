"""Reading many blobs at once: each range of a pack is fetched once, in parallel, and every blob checked.

Rules upheld here:
- A blob that cannot be read is reported with its error and takes no other with it.
- As many threads wait for the store as it has connections, as many work as there are cores (`cores`).
- Memory holds one range per thread; neighbours in a pack come in one read when the gap is cheaper than a request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import batches, open_blob, open_blobs
from holdfast.repository.cores import AT_WORK
from holdfast.repository.index import Location
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.store.base import Bytes

_MAX_RANGE = 8 << 20
_MAX_GAP = 256 << 10
_MANY = 32
"""Blobs of one range from which on it counts as one of small blobs."""


class Piece(NamedTuple):
    """One blob to read, and where it lies."""

    blob: BlobId
    where: Location


Delivered = list[tuple[BlobId, Bytes]]
"""Blobs that lie side by side in a pack, and were often side by side in a file: at most about 1 MiB, or one."""

Deliver = Callable[[Delivered], None]

Fail = Callable[[BlobId, HoldfastError], None]


def read_blobs(repository: Repository, wanted: Iterable[BlobId], deliver: Deliver, fail: Fail) -> None:
    """Read data blobs in the order of the packs, each once. `deliver` and `fail` are called from several threads.

    Raises: what `deliver` raises, and errors of the store that are not about single objects (StoreUnavailable,
    StoreDenied); then the rest is not read.
    """
    pieces = []
    for blob in dict.fromkeys(wanted):
        try:
            pieces.append(Piece(blob, repository.reader.locate(BlobKind.DATA, blob)))
        except CorruptObject as error:
            fail(blob, error)
    with ThreadPoolExecutor(repository.connections, "extract") as pool:
        groups = mixed(group_ranges(pieces))
        futures = [pool.submit(_read_range, repository, group, deliver, fail) for group in groups]
        try:
            for future in as_completed(futures):
                future.result()
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
        if near and where.offset + where.length - start <= _MAX_RANGE:
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


def _read_range(repository: Repository, group: list[Piece], deliver: Deliver, fail: Fail) -> None:
    first, last = group[0].where, group[-1].where
    start, end = first.offset, last.offset + last.length
    try:
        data = memoryview(repository.store.get(key_of(Folder.DATA, first.pack), offset=start, length=end - start))
    except ObjectNotFound as error:
        for piece in group:
            fail(piece.blob, error)
        return
    with AT_WORK:
        _open_pieces(repository, group, data, deliver, fail)


def _open_pieces(repository: Repository, group: list[Piece], data: memoryview, deliver: Deliver, fail: Fail) -> None:
    start = group[0].where.offset
    for batch in batches(group, lambda piece: piece.where.size):
        found = [(data[piece.where.offset - start :][: piece.where.length], piece.blob, piece.where) for piece in batch]
        plains = open_blobs(repository.key, found) if len(batch) > 1 else None
        if plains is not None:
            deliver([(piece.blob, plain) for piece, plain in zip(batch, plains, strict=True)])
            continue
        for stored, blob, where in found:
            try:
                plain = open_blob(repository.key, stored, blob, where)
            except CorruptObject as error:
                fail(blob, error)
            else:
                deliver([(blob, plain)])
