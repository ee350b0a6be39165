"""Placing what one range of a pack holds: blobs are opened, and their bytes written to whichever files need them.

It runs in the process that restores and, as a program, in helper processes (`placer` hands out the orders).

Rules upheld here:
- Every blob is checked before its bytes are written; one that is not whole takes no other with it.
- A file that is made here is made with O_EXCL and O_NOFOLLOW: nothing is written through a link.
- Blobs that touch are written in one call; what is zeros stays a hole where that is allowed.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import itemgetter

import msgspec

from holdfast.errors import CorruptObject
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import batches, open_blob, open_blobs
from holdfast.repository.crew import Setup
from holdfast.repository.crypto import OVERHEAD, MasterKey
from holdfast.repository.index import Location
from holdfast.repository.processes import Program, serve
from holdfast.repository.tree import Node
from holdfast.services.memory import settle_memory
from holdfast.services.metadata import MetadataWriter, Refused
from holdfast.store.base import Bytes

MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
KEPT_OPEN = 128
"""Files of one range that are open at the same time: what compresses well comes by the ten thousand."""
_MOST_PIECES = 1024
"""Of one write: IOV_MAX of Linux."""
_ZEROS = bytes(1 << 20)

Part = tuple[int, Bytes]
"""Where in a file something belongs, and what."""


class Place(msgspec.Struct, array_like=True):
    """A file that needs something of the range; with a node one that is all here: made, written and finished."""

    path: bytes
    node: Node | None = None


class Target(msgspec.Struct, array_like=True):
    """Where a blob belongs: the number of its file, the offset there, and whether zeros may be left out."""

    place: int
    offset: int
    sparse: bool


class Block(msgspec.Struct, array_like=True):
    """A blob: `length` stored bytes at `at` of the range, `raw_length` as in `Location`, and where it belongs."""

    at: int
    length: int
    raw_length: int
    blob: bytes
    targets: list[Target]


class Order(msgspec.Struct, array_like=True):
    """What is to be done with a range: `length` bytes, in a slot if a helper is to do it.

    `again`: somebody may have begun with it and died; files that are to be made may be there.
    """

    slot: int
    length: int
    blocks: list[Block]
    places: list[Place]
    again: bool = False


class Placed(msgspec.Struct, array_like=True):
    """What became of it: the numbers of the blocks that are not whole, the metadata that was refused.

    `failed`: what ended it before its end, as an errno and the file that it was about.
    """

    bad: list[int] = []
    refused: Refused = {}
    failed: tuple[int, bytes] | None = None


def place(key: MasterKey, order: Order, data: Bytes) -> Placed:
    """Do what an order says with the range's bytes."""
    work = _Work(key, order, memoryview(data))
    failed = None
    try:
        for batch in batches(list(enumerate(order.blocks)), lambda numbered: _size(numbered[1])):
            work.write(work.opened(batch))
    except OSError as error:
        # Of a call on an open file it is the descriptor's number.
        about = os.fsencode(error.filename) if isinstance(error.filename, str | bytes) else work.current
        failed = (error.errno or errno.EIO, about)
    finally:
        work.close()
    return Placed(work.bad, work.metadata.take_refused(), failed)


class _Work:
    """One order on its way."""

    def __init__(self, key: MasterKey, order: Order, data: memoryview) -> None:
        self.bad: list[int] = []
        self.metadata = MetadataWriter()
        self.current = b""
        """The file that is being written: an error of a write does not name it."""
        self._key, self._order, self._data = key, order, data
        self._open: dict[int, int] = {}

    def opened(self, batch: Sequence[tuple[int, Block]]) -> list[tuple[Block, Bytes]]:
        """The plaintexts of neighbours; without those that are not whole, which are noted."""
        found = [
            (self._data[block.at : block.at + block.length], BlobId(block.blob), _location(block)) for _, block in batch
        ]
        plains = open_blobs(self._key, found) if len(batch) > 1 else None
        if plains is not None:
            return [(block, plain) for (_, block), plain in zip(batch, plains, strict=True)]
        whole: list[tuple[Block, Bytes]] = []
        for (number, block), (stored, wanted, where) in zip(batch, found, strict=True):
            try:
                whole.append((block, open_blob(self._key, stored, wanted, where)))
            except CorruptObject:
                self.bad.append(number)
        return whole

    def write(self, found: list[tuple[Block, Bytes]]) -> None:
        """Write these to where they belong. Raises: OSError."""
        parts: dict[int, list[Part]] = {}
        for block, data in found:
            zeros: bool | None = None
            for target in block.targets:
                node = self._order.places[target.place].node
                if node is not None:
                    self._write_whole(self._order.places[target.place].path, node, data)
                    continue
                if target.sparse and zeros is None:
                    zeros = is_zeros(data)
                parts.setdefault(target.place, []).append((target.offset, b"" if target.sparse and zeros else data))
        for number, pieces in parts.items():
            self._write_parts(number, pieces)

    def _write_whole(self, path: bytes, node: Node, data: Bytes) -> None:
        self.current = path
        if self._order.again:
            with suppress(FileNotFoundError):
                os.unlink(path)
        make_whole(path, node, data, self.metadata)

    def _write_parts(self, number: int, pieces: list[Part]) -> None:
        self.current = self._order.places[number].path
        fd = self._open.get(number)
        if fd is None:
            if len(self._open) >= KEPT_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._open[number] = os.open(self.current, _OPEN)
        for offset, run in joined(pieces):
            write_at(fd, run, offset)

    def close(self) -> None:
        """Close the files."""
        for fd in self._open.values():
            os.close(fd)


def make_whole(path: bytes, node: Node, data: Bytes, metadata: MetadataWriter) -> None:
    """A file whose content is all here, with its metadata. Raises: OSError."""
    fd = os.open(path, MAKE, 0o600)
    try:
        write_at(fd, [data], 0)
        metadata.apply(fd, node)
    finally:
        os.close(fd)


def is_zeros(data: Bytes) -> bool:
    """Whether it may stay a hole. Compared with zeros in large pieces: looking for another byte one by one is slow."""
    if data and data[0]:
        return False
    # As bytes: a view is compared one byte after the other.
    return all(
        bytes(data[at : at + len(_ZEROS)]) == _ZEROS[: len(data) - at] for at in range(0, len(data), len(_ZEROS))
    )


def joined(parts: Sequence[Part]) -> Iterator[tuple[int, list[Bytes]]]:
    """Parts of a file, those that touch put together, so that a write takes many; no order."""
    run: list[Bytes] = []
    start = end = 0
    for offset, data in sorted(parts, key=itemgetter(0)):
        if run and offset == end:
            run.append(data)
        else:
            if run:
                yield start, run
            run, start = [data], offset
        end = offset + len(data)
    if run:
        yield start, run


def write_at(fd: int, pieces: Sequence[Bytes], offset: int) -> None:
    """Write all of these, one behind the other, from an offset on. Raises: OSError."""
    for first in range(0, len(pieces), _MOST_PIECES):
        left = deque(memoryview(piece) for piece in pieces[first : first + _MOST_PIECES])
        while left:
            written = os.pwritev(fd, left, offset)
            offset += written
            while left and written >= len(left[0]):
                written -= len(left.popleft())
            if written:
                left[0] = left[0][written:]


def _size(block: Block) -> int:
    return block.raw_length or block.length - OVERHEAD


def _location(block: Block) -> Location:
    """Without the pack: whoever gave the order knows it, and tells what is wrong."""
    return Location("", block.at, block.length, block.raw_length)


PLACING = Program("holdfast.services.placing", Placed)


def _begin(setup: Setup) -> Callable[[Order], Placed]:
    settle_memory()
    key, slots = setup.master(), setup.slots()
    return lambda order: place(key, order, slots[order.slot][: order.length])


if __name__ == "__main__":
    serve(Setup, Order, _begin)
