"""The WAL archive of one cluster: sealed objects beside the repository's own, under `wal/SYSTEM/TIMELINE/NAME`.

Rules upheld here:
- Keyed by the cluster's system identifier: another cluster of the same name can neither overwrite nor be mixed in.
- A name is written once; only what is damaged on the store is written anew. The same content again is a success
  (sealing is random, so contents are compared, not stored bytes); other content is WalConflict. A partial segment may
  only grow.
- Where a store does not refuse an existing key by itself, the object is read back: of two writers one learns of it.
- Every object says inside its seal what it is: one that was moved to another name is found out.

restic lists only its own folders, and Holdfast's check and prune do the same: nobody else touches `wal/`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime

import msgspec
import zstandard

from holdfast.errors import CorruptObject, ObjectExists, ObjectNotFound, WalConflict, WalMissing
from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import DEFAULT_SEGMENT_SIZE, WalKind, WalName, history_name, parse_wal_name
from holdfast.policy.wal import Stock, stock_of
from holdfast.repository.crypto import AuthenticationError, MasterKey
from holdfast.repository.objects import corrupt
from holdfast.store.base import Bytes, Store

FOLDER = "wal"
LEVEL = 1
_LENGTH = struct.Struct(">I")
_MAGIC = b"HFW1"
_OURS = "a WAL file as Holdfast stores it"


class WalHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What an object says of itself: `size` of the content in bytes; the times of the first and last commit in it.

    `seen` is when the file was last written, where it was found; `written` how much of a partial segment was, in bytes.
    """

    system: str
    name: str
    size: int
    written: int | None = None
    seen: datetime | None = None
    first_commit: datetime | None = None
    last_commit: datetime | None = None


class Stored(msgspec.Struct, frozen=True):
    """What storing a file did: whether it was new, and the bytes on the store (0 when it was there already)."""

    new: bool
    stored: int


class WalArchive:
    """The archive of the cluster with this system identifier (decimal)."""

    def __init__(self, store: Store, key: MasterKey, system: str) -> None:
        if not system.isdigit():
            raise ValueError(f"not a system identifier: {system!r}")
        self.system = system
        self._store, self._key = store, key

    def key_of(self, name: WalName) -> str:
        """Where a file lies on the store."""
        return f"{FOLDER}/{self.system}/{name.timeline:08X}/{name.text}"

    def put(self, name: WalName, data: Bytes, header: WalHeader) -> Stored:
        """Archive a file. Raises: WalConflict when other content has its name; CorruptObject, the store's errors."""
        sealed = self._seal(data, header)
        key = self.key_of(name)
        if name.kind is WalKind.PARTIAL:
            return self._put_partial(name, data, sealed)
        try:
            self._store.put(key, sealed, if_absent=True)
        except ObjectExists:
            return self._settle(name, data, sealed)
        if not getattr(self._store, "atomic_if_absent", False) and self._store.get(key) != sealed:
            self._compare(name, data)
        return Stored(True, len(sealed))

    def _settle(self, name: WalName, data: Bytes, sealed: bytes) -> Stored:
        """What becomes of a file whose name is taken: one that lies there damaged is replaced by the whole one."""
        try:
            self._compare(name, data)
        except CorruptObject:
            self._store.put(self.key_of(name), sealed)
            return Stored(True, len(sealed))
        return Stored(False, 0)

    def read(self, name: WalName) -> tuple[WalHeader, bytes]:
        """A file and what is known of it. Raises: WalMissing, CorruptObject, the store's errors."""
        header, packed = self._open(name, self.sealed(name))
        key = self.key_of(name)
        try:
            data = zstandard.ZstdDecompressor().decompress(packed, max_output_size=header.size)
        except zstandard.ZstdError as error:
            raise corrupt(key, _OURS, str(error)) from error
        _check_size(key, header, len(data))
        return header, data

    def sealed(self, name: WalName) -> bytes:
        """A file as it lies on the store, for `pieces`. Raises: WalMissing, the store's errors."""
        key = self.key_of(name)
        try:
            return self._store.get(key)
        except ObjectNotFound as error:
            raise WalMissing(
                "the archive does not hold this WAL file", which=name.text, found=f"no object {key}"
            ) from error

    def pieces(self, name: WalName, sealed: bytes, buffer: bytearray) -> Iterator[memoryview]:
        """The content of a file, piece by piece, each in the same buffer; its seal and its name are checked before.

        Raises: CorruptObject, for a wrong length only behind the last piece.
        """
        header, packed = self._open(name, sealed)
        key, view, done = self.key_of(name), memoryview(buffer), 0
        try:
            with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
                while count := reader.readinto(buffer):
                    done += count
                    yield view[:count]
        except zstandard.ZstdError as error:
            raise corrupt(key, _OURS, str(error)) from error
        _check_size(key, header, done)

    def has(self, name: WalName) -> bool:
        """Whether there is an object of this name."""
        try:
            self._store.head(self.key_of(name))
        except ObjectNotFound:
            return False
        return True

    def delete(self, name: WalName) -> None:
        """Remove a file; one that is gone is a success."""
        self._store.delete(self.key_of(name))

    def names(self) -> list[WalName]:
        """Every file that is archived, in order of their names."""
        found = (parse_wal_name(info.key.rpartition("/")[2]) for info in self._store.list(f"{FOLDER}/{self.system}"))
        return sorted((name for name in found if name is not None), key=lambda name: name.text)

    def sizes(self) -> dict[str, int]:
        """The bytes that each file takes on the store, by its name."""
        return {info.key.rpartition("/")[2]: info.size for info in self._store.list(f"{FOLDER}/{self.system}")}

    def stock(self, segment_size: int = DEFAULT_SEGMENT_SIZE) -> Stock:
        """What is there, with the histories read. Raises: CorruptObject for a history that cannot be understood."""
        names = self.names()
        histories = [self.history(name.timeline) for name in names if name.kind is WalKind.HISTORY]
        return stock_of(names, histories, segment_size=segment_size)

    def history(self, timeline: int) -> TimelineHistory:
        """A timeline's history. Raises: WalMissing, CorruptObject."""
        name = WalName(history_name(timeline), WalKind.HISTORY, timeline)
        try:
            return TimelineHistory.parse(timeline, self.read(name)[1].decode())
        except ValueError as error:
            raise corrupt(self.key_of(name), "a timeline's history", str(error)) from error

    def _put_partial(self, name: WalName, data: Bytes, sealed: bytes) -> Stored:
        """Replace a partial segment by one that goes on from it; one that is the same or behind changes nothing."""
        try:
            before = _written(self.read(name)[1])
        except WalMissing:
            before = b""
        now = _written(bytes(data))
        if before.startswith(now) and before:
            return Stored(False, 0)
        if not now.startswith(before):
            raise self._conflict(name, "content that goes on from what is archived", "other content")
        self._store.put(self.key_of(name), sealed)
        return Stored(True, len(sealed))

    def _compare(self, name: WalName, data: Bytes) -> None:
        _, there = self.read(name)
        if there != data:
            raise self._conflict(name, f"the {len(there)} bytes that are archived", f"{len(data)} other bytes")

    def _conflict(self, name: WalName, wanted: str, found: str) -> WalConflict:
        return WalConflict(
            "a WAL file of this name is archived with other content",
            which=self.key_of(name),
            wanted=wanted,
            found=found,
            hint="two servers with one system identifier ship here, or one was set back without a new timeline; "
            "nothing was overwritten, and nothing behind it on this timeline is shipped. Stop the wrong server; the "
            "right one goes on with a new timeline (a promotion, or a recovery), a new spool and a new base backup",
        )

    def _seal(self, data: Bytes, header: WalHeader) -> bytes:
        head = msgspec.json.encode(header)
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(data)
        return self._key.seal(b"".join((_MAGIC, _LENGTH.pack(len(head)), head, packed)))

    def _open(self, name: WalName, stored: bytes) -> tuple[WalHeader, memoryview]:
        """What an object says of itself, and its content, packed. Raises: CorruptObject."""
        key = self.key_of(name)
        try:
            plain = self._key.open(stored)
        except AuthenticationError as error:
            raise corrupt(key, "an authentic WAL file", str(error)) from error
        begin = len(_MAGIC) + _LENGTH.size
        if plain[: len(_MAGIC)] != _MAGIC or len(plain) < begin:
            raise corrupt(key, _OURS, plain[:4].hex())
        end = begin + _LENGTH.unpack_from(plain, len(_MAGIC))[0]
        try:
            header = msgspec.json.decode(plain[begin:end], type=WalHeader)
        except msgspec.DecodeError as error:
            raise corrupt(key, _OURS, str(error)) from error
        if (header.system, header.name) != (self.system, name.text):
            raise corrupt(key, f"{name.text} of {self.system}", f"{header.name} of {header.system}")
        return header, memoryview(plain)[end:]


def systems(store: Store) -> Iterator[str]:
    """The system identifiers of all clusters that have an archive on a store, sorted."""
    found = {info.key.split("/")[1] for info in store.list(FOLDER) if info.key.count("/") == 3}
    yield from sorted(system for system in found if system.isdigit())


def _check_size(key: str, header: WalHeader, found: int) -> None:
    if found != header.size:
        raise corrupt(key, f"{header.size} bytes", f"{found} bytes")


def _written(data: bytes) -> bytes:
    """What was written of a preallocated segment: without the zeros at its end."""
    return data.rstrip(b"\0")
