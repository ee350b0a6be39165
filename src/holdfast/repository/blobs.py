"""One blob: plaintext to stored bytes and back.

Rules upheld here:
- A blob's id is the SHA-256 of its plaintext. Reading checks authentication, length and id before a byte is believed.
- What does not shrink is stored as it is: incompressible data is recognised from samples, not by trying it all.
- A frame that claims more than the index said is refused before memory is taken for it.

Source: restic doc/design.rst, "Pack Format".
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import zstandard

from holdfast.model.ids import BlobId
from holdfast.repository.crypto import AuthenticationError, MasterKey
from holdfast.repository.index import Location
from holdfast.repository.objects import Folder, corrupt, key_of
from holdfast.store.base import Bytes

DEFAULT_LEVEL = 2
"""zstd's level: as small as level 3 within a percent on mixed data, in two thirds of the time."""

MAX_BLOB = 1 << 29
"""Plaintext bytes of one blob that are accepted: data blobs have 8 MiB at most, the tree of a huge directory more."""

_PROBE_FROM = 128 << 10
_PROBE_SIZE = 4 << 10
_WORTH_IT = 0.97
_BATCH = 1 << 20
"""Bytes of small blobs that are opened in one call."""

T = TypeVar("T")


class Compressor:
    """Compresses blobs; one zstd context per thread. `level` 0 stores everything as it is."""

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        self.level = level
        self._local = threading.local()

    def compress(self, data: Bytes) -> bytes | None:
        """The zstd frame, or None when it would not be smaller."""
        if self.level == 0 or (len(data) >= _PROBE_FROM and not self._promising(data)):
            return None
        packed: bytes = self._context().compress(data)
        return packed if len(packed) < len(data) else None

    def compress_all(self, pieces: Sequence[Bytes]) -> list[bytes | None]:
        """`compress` for many small blobs in one call: threads hand the interpreter over once, not for each of them."""
        if self.level == 0 or len(pieces) < 2 or any(len(piece) >= _PROBE_FROM for piece in pieces):
            return [self.compress(piece) for piece in pieces]
        frames = self._context().multi_compress_to_buffer(list(pieces))
        packed = [frames[number].tobytes() for number in range(len(pieces))]
        return [frame if len(frame) < len(piece) else None for frame, piece in zip(packed, pieces, strict=True)]

    def _promising(self, data: Bytes) -> bool:
        view = memoryview(data)
        step = len(view) // 4
        samples = b"".join(view[at : at + _PROBE_SIZE] for at in range(0, 4 * step, step))
        return len(self._context().compress(samples)) < _WORTH_IT * len(samples)

    def _context(self) -> zstandard.ZstdCompressor:
        try:
            context: zstandard.ZstdCompressor = self._local.context
        except AttributeError:
            context = self._local.context = zstandard.ZstdCompressor(level=self.level)
        return context


def blob_id(data: Bytes) -> BlobId:
    """The id of a blob with this plaintext."""
    return BlobId(hashlib.sha256(data).digest())


def open_blob(key: MasterKey, stored: Bytes, wanted: BlobId, where: Location) -> bytes:
    """The plaintext of a blob from its stored bytes. Raises: CorruptObject naming the pack and the blob."""
    which = f"{key_of(Folder.DATA, where.pack)} (blob {wanted.hex()[:16]} at {where.offset})"
    if len(stored) != where.length:
        raise corrupt(which, f"{where.length} stored bytes", f"{len(stored)}")
    try:
        plain = key.open(stored)
    except AuthenticationError as error:
        raise corrupt(which, "an authentic blob", str(error)) from error
    if where.raw_length:
        plain = _decompress(plain, where.raw_length, which)
    if hashlib.sha256(plain).digest() != wanted:
        raise corrupt(which, "a blob whose SHA-256 is its id", f"{len(plain)} other bytes")
    return plain


def open_blobs(key: MasterKey, found: Sequence[tuple[Bytes, BlobId, Location]]) -> list[Bytes] | None:
    """The plaintexts of many small blobs, decompressed in one call; None when one of them is not whole.

    Views of one buffer, where they were compressed. Which one is not whole, `open_blob` tells: for each by itself.
    """
    try:
        plains: list[Bytes] = [key.open(stored) for stored, _, _ in found]
        packed = [number for number, (_, _, where) in enumerate(found) if where.raw_length]
        frames = [plains[number] for number in packed]
        sizes = [found[number][2].raw_length for number in packed]
        if any(zstandard.frame_content_size(frame) != size for frame, size in zip(frames, sizes, strict=True)):
            return None
        opened = _decompressor().multi_decompress_to_buffer(frames) if frames else ()
    except (AuthenticationError, zstandard.ZstdError):
        return None
    for at, number in enumerate(packed):
        plains[number] = memoryview(opened[at])  # type: ignore[arg-type]  # a segment is a buffer
    whole = all(
        len(stored) == where.length and hashlib.sha256(plain).digest() == wanted
        for plain, (stored, wanted, where) in zip(plains, found, strict=True)
    )
    return plains if whole else None


def batches(pieces: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Neighbours that are small together, for `open_blobs`; larger ones alone."""
    batch: list[T] = []
    total = 0
    for piece in pieces:
        if batch and total + size(piece) > _BATCH:
            yield batch
            batch, total = [], 0
        batch.append(piece)
        total += size(piece)
    if batch:
        yield batch


def _decompress(frame: bytes, raw_length: int, which: str) -> bytes:
    try:
        claimed = zstandard.frame_content_size(frame)
        # -1: the frame does not say; then the length that the index gave bounds the output.
        if raw_length > MAX_BLOB or claimed not in (-1, raw_length):
            raise corrupt(which, f"{raw_length} bytes when decompressed (at most {MAX_BLOB})", f"a claim of {claimed}")
        plain = _decompressor().decompress(frame, max_output_size=raw_length)
    except zstandard.ZstdError as error:
        raise corrupt(which, "a zstd frame", str(error)) from error
    if len(plain) != raw_length:
        raise corrupt(which, f"{raw_length} bytes when decompressed", f"{len(plain)}")
    return plain


_local = threading.local()


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's zstd context: making one costs as much as a small blob."""
    try:
        found: zstandard.ZstdDecompressor = _local.decompressor
    except AttributeError:
        found = _local.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    return found
