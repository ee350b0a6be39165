"""Packs: many sealed blobs in one object, with a sealed header at its end.

Rules upheld here:
- A pack holds blobs of one kind only (data or tree).
- Layout: `blob … blob | sealed header | u32 LE length of the sealed header`. A header entry is a type byte, u32 LE
  stored length, u32 LE plaintext length when the blob is compressed, and the blob's id.
- A header read from the store must describe the pack exactly: every length adds up, or the pack is damaged.

Source: restic doc/design.rst, "Pack Format".
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from holdfast.model.ids import BlobId
from holdfast.repository.crypto import OVERHEAD, AuthenticationError, MasterKey
from holdfast.repository.objects import corrupt
from holdfast.store.base import Bytes, Store

TARGET_SIZE = 16 << 20
"""Bytes at which a pack is closed: restic's default; one PUT each."""

MAX_HEADER = 16 << 20
"""restic's bound on a header: some 390,000 blobs."""


class BlobKind(IntEnum):
    """What a blob holds. The value is its type byte in a pack header; +2 when it is compressed."""

    DATA = 0
    TREE = 1

    @property
    def word(self) -> str:
        """The kind as index files spell it."""
        return "data" if self is BlobKind.DATA else "tree"


class PackedBlob(NamedTuple):
    """One blob inside a pack: `length` stored bytes at `offset`; `raw_length` is 0 when it is not compressed."""

    id: BlobId
    kind: BlobKind
    offset: int
    length: int
    raw_length: int

    @property
    def size(self) -> int:
        """Bytes of the blob's plaintext."""
        return self.raw_length or self.length - OVERHEAD


_PLAIN = struct.Struct("<BI32s")
_COMPRESSED = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")


class PackBuilder:
    """Collects sealed blobs of one kind into the bytes of one pack. Not safe for threads: its owner holds a lock.

    Args:
        kind: what the blobs hold.
        buffer: where the pack is built; what an earlier pack left in it is written over.
    """

    def __init__(self, kind: BlobKind, buffer: bytearray | None = None) -> None:
        self.kind = kind
        self.size = 0
        self.blobs: list[PackedBlob] = []
        self.buffer = bytearray() if buffer is None else buffer

    def add(self, blob_id: BlobId, sealed: bytes, raw_length: int) -> None:
        """Append one blob; `raw_length` is 0 when `sealed` holds the plaintext as it was."""
        self.blobs.append(PackedBlob(blob_id, self.kind, self.size, len(sealed), raw_length))
        end = self.size + len(sealed)
        self.buffer[self.size : end] = sealed
        self.size = end

    def finish(self, key: MasterKey) -> bytearray:
        """The whole pack, in the buffer; the builder is not used afterwards."""
        header = key.seal(b"".join(map(_header_entry, self.blobs)))
        self.buffer[self.size :] = header + _LENGTH.pack(len(header))
        return self.buffer


def _header_entry(blob: PackedBlob) -> bytes:
    if blob.raw_length:
        return _COMPRESSED.pack(blob.kind + 2, blob.length, blob.raw_length, blob.id)
    return _PLAIN.pack(blob.kind, blob.length, blob.id)


def header_size(blobs: list[PackedBlob]) -> int:
    """Bytes that the header of a pack with these blobs takes, its length field included."""
    return sum(map(entry_size, blobs)) + OVERHEAD + _LENGTH.size


def entry_size(blob: PackedBlob) -> int:
    """Bytes that a blob's entry takes in the header of its pack."""
    return _COMPRESSED.size if blob.raw_length else _PLAIN.size


def read_header(store: Store, key: MasterKey, store_key: str, size: int) -> list[PackedBlob]:
    """The blobs of a pack of `size` bytes, from its own header: one ranged read, a second for a long header.

    Raises: CorruptObject and the store's errors.
    """
    guess = min(size, 16 << 10)
    tail = store.get(store_key, offset=size - guess, length=guess)
    if len(tail) != guess or guess < _LENGTH.size + OVERHEAD:
        raise corrupt(store_key, f"{size} bytes that end in a header", f"{len(tail)} bytes at its end")
    (length,) = _LENGTH.unpack(tail[-_LENGTH.size :])
    if not OVERHEAD < length <= min(size - _LENGTH.size, MAX_HEADER):
        raise corrupt(store_key, "a header inside the pack", f"a header of {length} bytes in a pack of {size}")
    if length + _LENGTH.size > guess:
        tail = store.get(store_key, offset=size - length - _LENGTH.size, length=length + _LENGTH.size)
    return parse_header(key, tail[-length - _LENGTH.size : -_LENGTH.size], size, store_key)


def parse_header(key: MasterKey, sealed: Bytes, pack_size: int, store_key: str) -> list[PackedBlob]:
    """The blobs that a sealed header lists. Raises: CorruptObject."""
    try:
        header = key.open(sealed)
    except AuthenticationError as error:
        raise corrupt(store_key, "an authentic pack header", str(error)) from error
    blobs: list[PackedBlob] = []
    position = offset = 0
    try:
        while position < len(header):
            entry, position = _parse_entry(header, position, offset)
            offset += entry.length
            blobs.append(entry)
    except (struct.error, ValueError) as error:
        raise corrupt(store_key, "a pack header of whole entries", str(error)) from error
    wanted = pack_size - len(sealed) - _LENGTH.size
    if offset != wanted:
        raise corrupt(store_key, f"{wanted} bytes of blobs", f"a header that lists {offset}")
    return blobs


def _parse_entry(header: bytes, position: int, offset: int) -> tuple[PackedBlob, int]:
    marker = header[position]
    if marker in (0, 1):
        _, length, blob_id = _PLAIN.unpack_from(header, position)
        return PackedBlob(BlobId(blob_id), BlobKind(marker), offset, length, 0), position + _PLAIN.size
    if marker in (2, 3):
        _, length, raw, blob_id = _COMPRESSED.unpack_from(header, position)
        return PackedBlob(BlobId(blob_id), BlobKind(marker - 2), offset, length, raw), position + _COMPRESSED.size
    raise ValueError(f"unknown blob type {marker}")
