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
