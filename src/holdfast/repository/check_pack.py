"""Checking one pack that was read: is it what was written?

It runs in the process that checks and, as a program, in helper processes beside it (`check` hands out the packs).

Rules upheld here:
- The pack's SHA-256 is its name, its header lists what the index lists, and every blob in it decrypts, decompresses
  and hashes to its id.
- A helper says only whether a pack is whole. What is wrong with one that is not, the process that asked finds out.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator

import msgspec

from holdfast.errors import CorruptObject, HoldfastError
from holdfast.repository.blobs import batches, open_blob, open_blobs
from holdfast.repository.crew import Setup
from holdfast.repository.crypto import MasterKey
from holdfast.repository.index import Location
from holdfast.repository.objects import Folder, corrupt, key_of, name_of
from holdfast.repository.pack import PackedBlob, parse_header
from holdfast.repository.processes import Program, serve
from holdfast.store.base import Bytes

_ENTRY = struct.Struct("<B32sIII")


class Question(msgspec.Struct, array_like=True):
    """A pack in a slot: its length, its name, and the digest of what the index says that it holds."""

    slot: int
    length: int
    pack: str
    digest: bytes


def errors_in(key: MasterKey, pack: str, digest: bytes, data: Bytes) -> list[HoldfastError]:
    """What is wrong with a pack's bytes; `digest` as `digest_of` what the index lists."""
    store_key = key_of(Folder.DATA, pack)
    if name_of(data) != pack:
        return [corrupt(store_key, "bytes whose SHA-256 is its name", f"{len(data)} other bytes")]
    length = int.from_bytes(data[-4:], "little")
    try:
        header = parse_header(key, memoryview(data)[-4 - length : -4], len(data), store_key)
    except CorruptObject as error:
        return [error]
    if digest_of(header) != digest:
        return [corrupt(store_key, "the blobs that the index lists", "a header with others")]
    return list(unreadable_blobs(key, pack, data, header))


def unreadable_blobs(key: MasterKey, pack: str, data: Bytes, blobs: list[PackedBlob]) -> Iterator[CorruptObject]:
    """An error for each of these blobs that cannot be read from the pack's bytes."""
    view = memoryview(data)
    for batch in batches(blobs, lambda blob: blob.size):
        found = [(view[blob.offset : blob.offset + blob.length], blob.id, _where(pack, blob)) for blob in batch]
        if len(batch) > 1 and open_blobs(key, found) is not None:
            continue
        for stored, wanted, where in found:
            try:
                open_blob(key, stored, wanted, where)
            except CorruptObject as error:
                yield error


def digest_of(blobs: list[PackedBlob]) -> bytes:
    """A digest of what a pack holds, whatever the order in which it is listed."""
    rows = sorted(_ENTRY.pack(blob.kind, blob.id, blob.offset, blob.length, blob.raw_length) for blob in blobs)
    return hashlib.sha256(b"".join(rows)).digest()


def _where(pack: str, blob: PackedBlob) -> Location:
    return Location(pack, blob.offset, blob.length, blob.raw_length)


CHECKING = Program("holdfast.repository.check_pack", bool)


def _begin(setup: Setup) -> Callable[[Question], bool]:
    key, slots = setup.master(), setup.slots()
    return lambda asked: not errors_in(key, asked.pack, asked.digest, slots[asked.slot][: asked.length])


if __name__ == "__main__":
    serve(Setup, Question, _begin)
