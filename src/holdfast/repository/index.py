"""The index: which pack holds which blob, where. Built from the index files; the packs' own headers are its backup.

Rules upheld here:
- A blob that is known is never stored twice by one writer; a duplicate left by two writers at once is harmless.
- An entry costs one dict slot with an integer that packs (pack number, offset, length, plaintext length).
- Index files are written only after the packs they name are on the store.

Source: restic doc/design.rst, "Indexing".
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from holdfast.model.ids import BlobId
from holdfast.repository.crypto import OVERHEAD, MasterKey
from holdfast.repository.objects import Folder, corrupt, key_of, load_object, save_object
from holdfast.repository.pack import BlobKind, PackedBlob
from holdfast.store.base import Store

MAX_BLOBS_PER_FILE = 50_000
"""Entries of one index file, as restic splits them."""


class _BlobJson(msgspec.Struct, omit_defaults=True):
    id: str
    type: str
    offset: int
    length: int
    uncompressed_length: int = 0


class _PackJson(msgspec.Struct):
    id: str
    blobs: list[_BlobJson]


class _IndexJson(msgspec.Struct):
    packs: list[_PackJson]


_decoder = msgspec.json.Decoder(_IndexJson)
_KINDS = {"data": BlobKind.DATA, "tree": BlobKind.TREE}


class Location(NamedTuple):
    """Where a blob lies: `length` stored bytes at `offset` of pack `pack`; `raw_length` 0 when not compressed."""

    pack: str
    offset: int
    length: int
    raw_length: int

    @property
    def size(self) -> int:
        """Bytes of the blob's plaintext."""
        return self.raw_length or self.length - OVERHEAD


class Index:
    """Blob locations in memory. Safe for threads: additions hold a lock, look-ups are single dict reads."""

    def __init__(self) -> None:
        self._packs: list[str] = []
        self._numbers: dict[str, int] = {}
        self._entries: dict[BlobKind, dict[bytes, int]] = {kind: {} for kind in BlobKind}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def has(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Whether the blob is stored."""
        return blob_id in self._entries[kind]

    def find(self, kind: BlobKind, blob_id: BlobId) -> Location | None:
        """Where the blob is, or None."""
        entry = self._entries[kind].get(blob_id)
        if entry is None:
            return None
        mask = 0xFFFFFFFF
        return Location(self._packs[entry >> 96], entry >> 64 & mask, entry >> 32 & mask, entry & mask)

    def add(self, pack: str, blobs: Iterable[PackedBlob]) -> None:
        """Record a pack. A blob that is already known stays where it was found first."""
        with self._lock:
            number = self._numbers.setdefault(pack, len(self._packs))
            if number == len(self._packs):
                self._packs.append(pack)
            base = number << 96
            for blob in blobs:
                entry = base | blob.offset << 64 | blob.length << 32 | blob.raw_length
                self._entries[blob.kind].setdefault(blob.id, entry)

    def packs(self) -> list[str]:
        """Names of every pack that the index knows."""
        return list(self._packs)

    def ids(self, kind: BlobKind) -> Iterator[BlobId]:
        """Every blob of a kind."""
        return (BlobId(blob) for blob in self._entries[kind])


def load_index(store: Store, key: MasterKey, *, threads: int = 4) -> Index:
    """The index from every index file of the store.

    Raises: CorruptObject for the first damaged file, and the store's errors.
    """
    index = Index()
    names = [info.key.rpartition("/")[2] for info in store.list(Folder.INDEX)]
    with ThreadPoolExecutor(threads) as pool:
        for packs in pool.map(lambda name: read_index_file(store, key, name), names):
            for pack, blobs in packs.items():
                index.add(pack, blobs)
    return index


def read_index_file(store: Store, key: MasterKey, name: str) -> dict[str, list[PackedBlob]]:
    """The packs and blobs that one index file lists. Raises: CorruptObject."""
    store_key = key_of(Folder.INDEX, name)
    plain = load_object(store, key, Folder.INDEX, name)
    try:
        decoded = _decoder.decode(plain)
        return {_checked_name(pack.id): [_from_json(blob) for blob in pack.blobs] for pack in decoded.packs}
    except (msgspec.DecodeError, ValueError, KeyError) as error:
        raise corrupt(store_key, "an index file", str(error)) from error


def write_index_file(store: Store, key: MasterKey, packs: dict[str, list[PackedBlob]]) -> str:
    """Store one index file; its name."""
    document = _IndexJson([_PackJson(pack, [_to_json(blob) for blob in blobs]) for pack, blobs in packs.items()])
    return save_object(store, key, Folder.INDEX, msgspec.json.encode(document))


def _to_json(blob: PackedBlob) -> _BlobJson:
    return _BlobJson(blob.id.hex(), blob.kind.word, blob.offset, blob.length, blob.raw_length)


def _from_json(blob: _BlobJson) -> PackedBlob:
    if not (0 <= blob.offset < 1 << 32 and 0 < blob.length < 1 << 32 and 0 <= blob.uncompressed_length < 1 << 32):
        raise ValueError(f"blob {blob.id}: offset or length out of range")
    blob_id = bytes.fromhex(_checked_name(blob.id))
    return PackedBlob(BlobId(blob_id), _KINDS[blob.type], blob.offset, blob.length, blob.uncompressed_length)


def _checked_name(name: str) -> str:
    # A pack's name becomes part of a store key: only 64 lower-case hex digits may pass.
    if len(name) != 64 or name.strip("0123456789abcdef"):
        raise ValueError(f"not an id: {name[:80]!r}")
    return name
