"""The index: which pack holds which blob, where. Built from the index files; the packs' own headers are its backup.

Rules upheld here:
- A blob that is known is never stored twice by one writer; a duplicate left by two writers at once is harmless.
- An entry costs 48 bytes and a little air: ten million blobs fit into 600 MiB.
- Index files are written only after the packs they name are on the store.

Source: restic doc/design.rst, "Indexing".
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from holdfast.model.ids import BlobId
from holdfast.repository.crypto import OVERHEAD, MasterKey
from holdfast.repository.objects import Folder, corrupt, key_of, open_named, save_object
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
    packs: list[msgspec.Raw]
    """Each the JSON of a `_PackJson`: taken one by one, for a whole file's would be 20 MB of objects."""


_decoder = msgspec.json.Decoder(_IndexJson)
_pack_decoder = msgspec.json.Decoder(_PackJson)
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


_ROW = struct.Struct("<32sIIII")
_BUCKETS = 1 << 16


class _Table:
    """Rows by blob id: 65,536 buckets by an id's first two bytes, each a run of rows that is searched as bytes are.

    A bucket of ten million blobs holds 150 rows, 7 KiB: finding in it costs about what a dict's look-up costs, and a
    row has none of the objects that a dict's keys and values are.
    """

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets: list[bytearray | None] = [None] * _BUCKETS
        self.count = 0

    def find(self, blob: bytes) -> int:
        """Where the row begins in its bucket; -1 when there is none."""
        bucket = self._buckets[blob[0] << 8 | blob[1]]
        if bucket is None:
            return -1
        at = bucket.find(blob)
        while at > 0 and at % _ROW.size:  # an id's bytes across two rows: as good as impossible, and still no match
            at = bucket.find(blob, at + 1)
        return at

    def row(self, blob: bytes, at: int) -> tuple[int, int, int, int]:
        """Pack number, offset, length, plaintext length of the row that `find` found."""
        bucket = self._buckets[blob[0] << 8 | blob[1]]
        assert bucket is not None  # noqa: S101  find() was asked first
        _, pack, offset, length, raw_length = _ROW.unpack_from(bucket, at)
        return pack, offset, length, raw_length

    def rows(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        """Every row: id, pack number, offset, length, plaintext length."""
        for bucket in self._buckets:
            if bucket is not None:
                yield from _ROW.iter_unpack(bucket)

    def add(self, blob: bytes, pack: int, offset: int, length: int, raw_length: int) -> None:
        """Append a row. Not safe for several threads that add."""
        number = blob[0] << 8 | blob[1]
        row = _ROW.pack(blob, pack, offset, length, raw_length)
        bucket = self._buckets[number]
        if bucket is None:
            self._buckets[number] = bytearray(row)
        else:
            bucket += row
        self.count += 1


class Index:
    """Blob locations in memory. Safe for threads: additions hold a lock, look-ups see a row whole or not at all."""

    def __init__(self) -> None:
        self._packs: list[str] = []
        self._numbers: dict[str, int] = {}
        self._tables = {kind: _Table() for kind in BlobKind}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(table.count for table in self._tables.values())

    def has(self, kind: BlobKind, blob_id: BlobId) -> bool:
        """Whether the blob is stored."""
        return self._tables[kind].find(blob_id) >= 0

    def find(self, kind: BlobKind, blob_id: BlobId) -> Location | None:
        """Where the blob is, or None."""
        table = self._tables[kind]
        at = table.find(blob_id)
        if at < 0:
            return None
        pack, offset, length, raw_length = table.row(blob_id, at)
        return Location(self._packs[pack], offset, length, raw_length)

    def blobs_in(self, packs: Collection[str]) -> Iterator[tuple[str, PackedBlob]]:
        """The blobs that are read from these packs, in no order. Looks at every row, and nobody may add meanwhile."""
        numbers = {self._numbers[pack]: pack for pack in packs if pack in self._numbers}
        for kind, table in self._tables.items():
            for blob, number, *place in table.rows():
                if number in numbers:
                    yield numbers[number], PackedBlob(BlobId(blob), kind, *place)

    def row(self, kind: BlobKind, blob_id: BlobId) -> int:
        """The number of a blob's row among those whose ids begin with the same two bytes; -1 when it is not known."""
        return self._tables[kind].find(blob_id) // _ROW.size

    def add(self, pack: str, blobs: Iterable[PackedBlob]) -> None:
        """Record a pack. A blob that is already known stays where it was found first."""
        with self._lock:
            number = self._numbers.setdefault(pack, len(self._packs))
            if number == len(self._packs):
                self._packs.append(pack)
            for blob in blobs:
                table = self._tables[blob.kind]
                if table.find(blob.id) < 0:
                    table.add(blob.id, number, blob.offset, blob.length, blob.raw_length)


class BlobSet:
    """A set of blobs that an index knows, at one byte for each row of the index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._rows: dict[BlobKind, list[bytearray | None]] = {kind: [None] * _BUCKETS for kind in BlobKind}

    def add(self, kind: BlobKind, blob: BlobId) -> bool:
        """Add a blob; whether it is new. Raises: KeyError when the index does not know it."""
        row = self._index.row(kind, blob)
        if row < 0:
            raise KeyError(blob)
        number = blob[0] << 8 | blob[1]
        rows = self._rows[kind][number]
        if rows is None:
            rows = self._rows[kind][number] = bytearray(row + 1)
        elif row >= len(rows):
            rows.extend(bytes(row + 1 - len(rows)))
        new = not rows[row]
        rows[row] = 1
        return new

    def has(self, kind: BlobKind, blob: BlobId) -> bool:
        """Whether the blob is in the set."""
        rows = self._rows[kind][blob[0] << 8 | blob[1]]
        if rows is None:
            return False
        row = self._index.row(kind, blob)
        return 0 <= row < len(rows) and bool(rows[row])


Packs = dict[str, list[PackedBlob]]


def load_index(store: Store, key: MasterKey, *, threads: int = 4) -> Index:
    """The index from every index file of the store.

    Raises: CorruptObject for the first damaged file, and the store's errors.
    """
    index = Index()
    names = [info.key.rpartition("/")[2] for info in store.list(Folder.INDEX)]
    for name, stored in _fetched(store, names, threads):
        for pack, blobs in packs_in(key, name, stored):
            index.add(pack, blobs)
    return index


def read_index_files(
    store: Store, key: MasterKey, names: Iterable[str], *, threads: int = 4
) -> Iterator[tuple[str, Packs]]:
    """Index files by name with what they list, in order. Raises: CorruptObject, and the store's errors."""
    for name, stored in _fetched(store, names, threads):
        yield name, dict(packs_in(key, name, stored))


def read_index_file(store: Store, key: MasterKey, name: str) -> Packs:
    """The packs and blobs that one index file lists. Raises: CorruptObject, and the store's errors."""
    return dict(packs_in(key, name, store.get(key_of(Folder.INDEX, name))))


def _fetched(store: Store, names: Iterable[str], threads: int) -> Iterator[tuple[str, bytes]]:
    """Index files as they are stored, in order; as many as there are threads are fetched ahead.

    They are opened one at a time: open they are ten times as large, several would be more than the index itself.
    """
    with ThreadPoolExecutor(threads, "index") as pool:
        ahead: deque[tuple[str, Future[bytes]]] = deque()
        for name in names:
            ahead.append((name, pool.submit(store.get, key_of(Folder.INDEX, name))))
            if len(ahead) > threads:
                found, future = ahead.popleft()
                yield found, future.result()
        while ahead:
            found, future = ahead.popleft()
            yield found, future.result()


def packs_in(key: MasterKey, name: str, stored: bytes) -> Iterator[tuple[str, list[PackedBlob]]]:
    """What an index file lists, one pack after the other. Raises: CorruptObject, on the way at the latest."""
    plain = open_named(key, Folder.INDEX, name, stored)
    try:
        for raw in _decoder.decode(plain).packs:
            pack = _pack_decoder.decode(raw)
            yield _checked_name(pack.id), [_from_json(blob) for blob in pack.blobs]
    except (msgspec.DecodeError, ValueError, KeyError) as error:
        raise corrupt(key_of(Folder.INDEX, name), "an index file", str(error)) from error


def write_index_file(store: Store, key: MasterKey, packs: Packs) -> str:
    """Store one index file; its name."""
    parts = [msgspec.json.encode(_PackJson(pack, list(map(_to_json, blobs)))) for pack, blobs in packs.items()]
    document = _IndexJson(list(map(msgspec.Raw, parts)))
    return save_object(store, key, Folder.INDEX, msgspec.json.encode(document))


def index_parts(packs: Iterable[tuple[str, list[PackedBlob]]]) -> Iterator[Packs]:
    """Packs in portions, each about as much as one index file holds."""
    part: Packs = {}
    count = 0
    for pack, blobs in packs:
        part[pack] = blobs
        count += len(blobs)
        if count >= MAX_BLOBS_PER_FILE:
            yield part
            part, count = {}, 0
    if part:
        yield part


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
