"""Checking a repository: is what is stored what was written, and is everything there that snapshots need?

Rules upheld here:
- Checking goes on after a finding: one damaged object hides no other.
- Structure (always): every index file opens, every pack that an index names is there with the right size, every tree
  of every snapshot reads, and everything that it names is there (`check_trees`).
- Data (all, or a share of the packs): the pack's SHA-256 is its name, its header agrees with the index, and every blob
  in it decrypts, decompresses and hashes to its id.
- What is damaged is traced to the files of the snapshots that need it.
"""

from __future__ import annotations

import hashlib
import random
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from holdfast.errors import CorruptObject, HoldfastError, ObjectNotFound
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import batches, open_blob, open_blobs
from holdfast.repository.cache import origin_of
from holdfast.repository.check_trees import Checked, TreeCheck
from holdfast.repository.crypto import MasterKey
from holdfast.repository.index import Index, Location, packs_in
from holdfast.repository.objects import Folder, corrupt, key_of, name_of
from holdfast.repository.pack import BlobKind, PackedBlob, header_size, parse_header
from holdfast.repository.repository import Repository
from holdfast.store.base import Bytes, FillsBuffers

_READERS = 3
"""Threads that read packs and check them: each holds one, and what it is cut into."""


class _Listed(NamedTuple):
    """A pack as the index lists it: its size, and a digest of what it holds. Blobs in detail would fill the memory."""

    size: int
    digest: bytes


class _Read(NamedTuple):
    """A pack that was read: its name, how many bytes came, what is wrong with it."""

    pack: str
    size: int
    errors: list[HoldfastError]


class Checker:
    """One check of a repository. The caller holds a lock."""

    def __init__(self, repository: Repository, on_progress: Callable[[Checked], None] | None = None) -> None:
        self.done = Checked()
        self._repository = repository
        self._store, self._key = origin_of(repository.store), repository.key
        self._on_progress = on_progress or (lambda _: None)
        self._index = Index()
        self._packs: dict[str, _Listed] = {}
        self._lost: set[str] = set()
        self._broken: set[str] = set()
        self._damaged: set[tuple[BlobKind, BlobId]] = set()
        self._reading: deque[Future[_Read]] = deque()
        self._own = threading.local()

    def load(self) -> None:
        """Read the index, and compare the packs that it lists with those that are there. To be called first.

        Raises: errors of the store that are not about single objects.
        """
        self._load_index()
        self._check_packs()

    def run(self, *, read_share: float = 0.0, choose: random.Random | None = None) -> Checked:
        """Check the structure, and the data of `read_share` (0 to 1) of the packs, which `choose` picks.

        Raises: errors of the store that are not about single objects.
        """
        trees = TreeCheck(
            self._repository, self._store, self._index, self.done, self._damaged, self._on_progress, self._take_done
        )
        with ThreadPoolExecutor(_READERS, "check") as pool:
            try:
                self._reading.extend(
                    pool.submit(self._read_pack, pack)
                    for pack in self._chosen(read_share, choose or random.Random())  # noqa: S311  a sample, no secret
                )
                # Trees are looked at while packs are read: the one is Python's work, the other that of C libraries.
                trees.check()
                while self._reading:
                    self._take_read(self._reading.popleft())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if self._lost or self._broken:
            self._find_damaged()
        if self._damaged or trees.misfits:
            trees.trace()
        return self.done

    # --- index and packs ----------------------------------------------------------------------------------------------

    def _load_index(self) -> None:
        for info in self._store.list(Folder.INDEX):
            try:
                for pack, blobs in packs_in(self._key, info.key.rpartition("/")[2], self._store.get(info.key)):
                    self._packs[pack] = _Listed(sum(blob.length for blob in blobs) + header_size(blobs), _digest(blobs))
                    self._index.add(pack, blobs)
            except (CorruptObject, ObjectNotFound) as error:
                self.done.problems.append(error)
        self.done.packs, self.done.blobs = len(self._packs), len(self._index)

    def _check_packs(self) -> None:
        sizes = {info.key.rpartition("/")[2]: info.size for info in self._store.list(Folder.DATA)}
        for pack, (wanted, _) in self._packs.items():
            found = sizes.pop(pack, None)
            if found is None:
                self._damage_pack(pack, ObjectNotFound("a pack is missing", which=key_of(Folder.DATA, pack)))
            elif found != wanted:
                error = corrupt(key_of(Folder.DATA, pack), f"{wanted} bytes", f"{found}")
                self._damage_pack(pack, error)
        if sizes:
            total = sum(sizes.values())
            self.done.notices.append(
                f"{len(sizes)} packs ({total} bytes) are in no index: left by an interrupted run, prune removes them"
            )

    def _damage_pack(self, pack: str, error: HoldfastError) -> None:
        self.done.problems.append(error)
        self._lost.add(pack)

    def _chosen(self, share: float, choose: random.Random) -> list[str]:
        packs = sorted(self._packs)
        count = len(packs) if share >= 1 else max(1, round(len(packs) * share)) if packs and share > 0 else 0
        return choose.sample(packs, count)

    def _take_done(self) -> None:
        if self._reading and self._reading[0].done():
            self._take_read(self._reading.popleft())

    def _take_read(self, reading: Future[_Read]) -> None:
        pack, size, errors = reading.result()
        self.done.packs_read += 1
        self.done.bytes_read += size
        self.done.problems.extend(errors)
        self._on_progress(self.done)
        if errors:
            self._broken.add(pack)

    def _read_pack(self, pack: str) -> _Read:
        store_key = key_of(Folder.DATA, pack)
        try:
            data = self._fetch(store_key, self._packs[pack].size)
        except ObjectNotFound as error:
            # What the listing has not either was reported already.
            return _Read(pack, 0, [] if pack in self._lost else [error])
        if name_of(data) == pack:
            return _Read(pack, len(data), self._check_content(pack, data))
        return _Read(
            pack, len(data), [corrupt(store_key, "bytes whose SHA-256 is its name", f"{len(data)} other bytes")]
        )

    def _fetch(self, store_key: str, size: int) -> Bytes:
        """A pack whole. Where the store fills buffers, in that of this thread, until its next one."""
        if isinstance(self._store, FillsBuffers):
            buffer: bytearray | None = getattr(self._own, "buffer", None)
            if buffer is None or len(buffer) < size:
                buffer = self._own.buffer = bytearray(size)  # not the old one larger: somebody may still look at it
            found = self._store.get_into(store_key, buffer)
            if found is not None:
                return memoryview(buffer)[:found]
        return self._store.get(store_key)

    def _check_content(self, pack: str, data: Bytes) -> list[HoldfastError]:
        store_key = key_of(Folder.DATA, pack)
        length = int.from_bytes(data[-4:], "little")
        try:
            header = parse_header(self._key, memoryview(data)[-4 - length : -4], len(data), store_key)
        except CorruptObject as error:
            return [error]
        if _digest(header) != self._packs[pack].digest:
            return [corrupt(store_key, "the blobs that the index lists", "a header with others")]
        return list(_unreadable_blobs(self._key, pack, data, header))

    def _find_damaged(self) -> None:
        """Which blobs are lost: all of a pack that is not there, those of a damaged one that cannot be read from it."""
        found: dict[str, list[PackedBlob]] = {}
        for pack, blob in self._index.blobs_in(self._lost | self._broken):
            found.setdefault(pack, []).append(blob)
        for pack, blobs in found.items():
            lost = blobs if pack in self._lost else self._unreadable(pack, blobs)
            self._damaged.update((blob.kind, blob.id) for blob in lost)

    def _unreadable(self, pack: str, blobs: list[PackedBlob]) -> list[PackedBlob]:
        """The blobs of a damaged pack that cannot be read from it; most of them usually still can."""
        try:
            data = self._store.get(key_of(Folder.DATA, pack))
        except HoldfastError:
            data = b""
        return [blob for blob in blobs if next(_unreadable_blobs(self._key, pack, data, [blob]), None) is not None]


def _unreadable_blobs(key: MasterKey, pack: str, data: Bytes, blobs: list[PackedBlob]) -> Iterator[CorruptObject]:
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


_ENTRY = struct.Struct("<B32sIII")


def _digest(blobs: list[PackedBlob]) -> bytes:
    """A digest of what a pack holds, whatever the order in which it is listed."""
    rows = sorted(_ENTRY.pack(blob.kind, blob.id, blob.offset, blob.length, blob.raw_length) for blob in blobs)
    return hashlib.sha256(b"".join(rows)).digest()


def _where(pack: str, blob: PackedBlob) -> Location:
    return Location(pack, blob.offset, blob.length, blob.raw_length)
