"""Blobs to the files that need them: each range of a pack is read once, and placed by whoever is free.

Rules upheld here:
- Reading waits for the store in threads of this process; opening and writing are done by helper processes beside one
  thread of this one, where there is enough to do: hashing and decrypting small blobs keeps the interpreter busy, and of
  that one process can use one core only.
- Helpers decide nothing: they do an order, and tell what became of it. A helper that dies costs time.
- A blob that is not whole is named with its pack; everything else is placed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from holdfast.errors import CorruptObject, HoldfastError
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import open_blob
from holdfast.repository.cores import AT_WORK, cores, workers_for
from holdfast.repository.crew import WORTH_BYTES, Crew
from holdfast.repository.extract import MAX_RANGE, Fetched, read_ranges
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node
from holdfast.services.metadata import MetadataWriter
from holdfast.services.placing import PLACING, Block, Order, Place, Placed, Target, place

WORTH_BLOBS = 2_000
"""Blobs from which on helpers are worth it, however small they are."""

_SLOT = MAX_RANGE + (1 << 16)
"""The largest blob that backups make is one of 8 MiB, and what sealing adds."""


class File(Protocol):
    """A file that is being restored, as far as its contents go."""

    @property
    def path(self) -> bytes:
        """Where it is written."""
        ...

    @property
    def whole(self) -> Node | None:
        """What gives it its metadata, when it is of one blob: made, written and finished in one go."""
        ...


F = TypeVar("F", bound=File)
F_contra = TypeVar("F_contra", bound=File, contravariant=True)


class Spot(NamedTuple, Generic[F]):
    """Where a blob belongs; `sparse` when zeros may be left out, for there is a hole."""

    file: F
    offset: int
    sparse: bool


class Told(Protocol[F_contra]):
    """Who is told what becomes of files. From several threads."""

    def begin(self, file: F_contra) -> None:
        """Make a file that is not `whole`, if it is not there. Before anything is written to it. Raises: OSError."""
        ...

    def failed(self, file: F_contra, error: HoldfastError) -> None:
        """A blob of it cannot be read. `arrived` comes, too."""
        ...

    def arrived(self, file: F_contra, count: int) -> None:
        """So many blobs more of it are in their place, or failed. Raises: OSError."""
        ...


class Placer:
    """Places blobs, with the same helpers from one time to the next; to be closed.

    Args:
        repository: where the blobs are.
        metadata: counts what a whole file's metadata could not be given.
    """

    def __init__(self, repository: Repository, metadata: MetadataWriter) -> None:
        self._repository, self._metadata = repository, metadata
        self._crew = Crew(PLACING, repository.key, own=workers_for(cores()))

    def place(
        self,
        wanted: Mapping[BlobId, Sequence[Spot[F]]],
        size: int,
        told: Told[F],
        after_each: Callable[[], None] = lambda: None,
    ) -> None:
        """Bring these blobs, about `size` bytes, to their places; `after_each` range the caller's thread says so.

        Raises: OSError with the file that it is about, and errors of the store that are not about single objects.
        """
        if size >= WORTH_BYTES or len(wanted) >= WORTH_BLOBS:
            self._crew.start(self._repository.connections, _SLOT)
        read_ranges(
            self._repository,
            wanted,
            lambda fetched: self._place(fetched, wanted, told),
            lambda blob, error: _fail(wanted[blob], error, told),
            self._crew.buffers,
            after_each,
        )

    def close(self) -> None:
        """End the helpers."""
        self._crew.close()

    def _place(self, fetched: Fetched, wanted: Mapping[BlobId, Sequence[Spot[F]]], told: Told[F]) -> None:
        order, files = _order(fetched, wanted, told)
        placed = self._done(order, fetched)
        if placed.failed is not None:
            number, path = placed.failed
            raise OSError(number, os.strerror(number), path)
        self._metadata.add_refused(placed.refused)
        for number in placed.bad:
            piece = fetched.pieces[number]
            error = self._why_bad(fetched, number)
            for spot in wanted[piece.blob]:
                told.failed(spot.file, error)
        for file, count in files.items():
            told.arrived(file, count)

    def _done(self, order: Order, fetched: Fetched) -> Placed:
        with self._crew.turn() as helper:
            if helper is not None and fetched.slot is not None:
                placed = helper.ask(order)
                if placed is not None:
                    return placed
                order.again = True
            with AT_WORK:
                return place(self._repository.key, order, fetched.data)

    def _why_bad(self, fetched: Fetched, number: int) -> HoldfastError:
        piece = fetched.pieces[number]
        try:
            open_blob(self._repository.key, fetched.stored(piece), piece.blob, piece.where)
        except CorruptObject as error:
            return error
        return CorruptObject(
            "the same bytes were not whole, and then were",
            which=f"blob {piece.blob.hex()[:16]} of pack {piece.where.pack[:16]}",
            hint="this machine's memory may be faulty: test it, then restore again",
        )


def _order(fetched: Fetched, wanted: Mapping[BlobId, Sequence[Spot[F]]], told: Told[F]) -> tuple[Order, dict[F, int]]:
    """What is to be done with a range, and how many blobs it holds for each file. Raises: OSError."""
    start = fetched.pieces[0].where.offset
    numbers: dict[F, int] = {}
    counts: dict[F, int] = {}
    blocks = []
    for piece in fetched.pieces:
        where, targets = piece.where, []
        for file, offset, sparse in wanted[piece.blob]:
            targets.append(Target(numbers.setdefault(file, len(numbers)), offset, sparse))
            counts[file] = counts.get(file, 0) + 1
        blocks.append(Block(where.offset - start, where.length, where.raw_length, piece.blob, targets))
    for file in numbers:
        if file.whole is None:
            told.begin(file)
    places = [Place(file.path, file.whole and _metadata_of(file.whole)) for file in numbers]
    return Order(fetched.slot or 0, len(fetched.data), blocks, places), counts


def _metadata_of(node: Node) -> Node:
    """What is needed of a node to finish its file."""
    return Node(
        name="",
        type=node.type,
        mode=node.mode,
        mtime=node.mtime,
        uid=node.uid,
        gid=node.gid,
        extended_attributes=node.extended_attributes,
    )


def _fail(spots: Sequence[Spot[F]], error: HoldfastError, told: Told[F]) -> None:
    for spot in spots:
        told.failed(spot.file, error)
        told.arrived(spot.file, 1)
