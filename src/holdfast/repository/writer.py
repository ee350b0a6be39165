"""Storing blobs: deduplicate, compress, seal, pack, upload, index — in parallel, with bounded memory.

Rules upheld here:
- Each blob is stored once; two threads that bring the same blob agree under a lock who stores it.
- Work in flight is bounded by bytes (`_Budget`), packs by the buffers that they are built in: a slow store slows the
  reader down. Buffers are used again: new ones for each pack would leave the heap in pieces that nothing fits into.
- The first failure of any thread stops everything, and is what the caller sees.
- Index files are written after their packs; now and then during long runs, so that a killed run's packs are re-used.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, ParamSpec, TypeVar

from holdfast.errors import HoldfastError
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import DEFAULT_LEVEL, Compressor, blob_id
from holdfast.repository.cores import cores, workers_for
from holdfast.repository.crypto import MasterKey
from holdfast.repository.helpers import Helpers
from holdfast.repository.index import Index, write_index_file
from holdfast.repository.objects import Folder, key_of, name_of
from holdfast.repository.pack import TARGET_SIZE, BlobKind, PackBuilder, PackedBlob
from holdfast.store.base import Bytes, Store

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_INDEX_EVERY_SECONDS = 60.0
_INDEX_EVERY_BLOBS = 1 << 14
"""A third of what an index file may list: what waits for it, and is made on the way to it, is some 700 bytes a blob."""
_IN_FLIGHT = 16 << 20


@dataclass(slots=True)
class Added:
    """What a writer added: blobs, their plaintext bytes, and the bytes on the store (packs with headers)."""

    blobs: int = 0
    bytes: int = 0
    stored: int = 0
    packs: int = 0


class SealedBlob(NamedTuple):
    """A blob ready to be stored.

    `stored` are its sealed bytes, `raw_length` is 0 when they are not compressed, `size` are its plaintext's bytes.
    """

    id: BlobId
    stored: bytes
    raw_length: int
    size: int


class _Budget:
    """A semaphore over bytes. One piece larger than the whole budget passes when nothing else is in flight."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._condition = threading.Condition()

    def take(self, size: int) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._used == 0 or self._used + size <= self._limit)
            self._used += size

    def give(self, size: int) -> None:
        with self._condition:
            self._used -= size
            self._condition.notify_all()


class BlobWriter:
    """Writes blobs into a repository. Use as a context manager; `finish` makes everything findable.

    Args:
        store: the repository's store.
        key: its master key.
        index: what is already stored, loaded while the lock was held; it learns what is written.
        level: zstd level, 0 for none.
        workers: threads that hash, compress and seal; None for one per core. More only hand the interpreter around.
        uploads: packs that are uploaded at the same time.
        pack_size: bytes at which a pack is closed.
        before_upload: called before each pack is stored; what it raises ends the writing.
    """

    def __init__(
        self,
        store: Store,
        key: MasterKey,
        index: Index,
        *,
        level: int = DEFAULT_LEVEL,
        workers: int | None = None,
        uploads: int = 2,
        pack_size: int = TARGET_SIZE,
        before_upload: Callable[[], None] = lambda: None,
    ) -> None:
        self.added = Added()
        self._store, self._key, self._index = store, key, index
        self.helpers = Helpers(key, level)
        self._compressor = Compressor(level)
        self._pack_size = pack_size
        self._before_upload = before_upload
        self._lock = threading.Lock()
        self._pending: set[tuple[BlobKind, BlobId]] = set()
        self._open: dict[BlobKind, PackBuilder] = {}
        self._buffers: list[bytearray | None] = [None] * (uploads + len(BlobKind))
        self._buffer_back = threading.Condition(self._lock)
        self._unindexed: dict[str, list[PackedBlob]] = {}
        self._indexed_at = time.monotonic()
        self._failure: BaseException | None = None
        self._budget = _Budget(_IN_FLIGHT)
        self._reader = ThreadPoolExecutor(1, "read")
        self._workers = ThreadPoolExecutor(workers or workers_for(cores()), "blob")
        self._uploads = ThreadPoolExecutor(uploads, "upload")

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, size: int, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a job that holds about `size` bytes in a worker; waits while too much is in flight."""
        self._raise_failure()
        self._budget.take(size)

        def run() -> T:
            try:
                return job(*args, **kwargs)
            except BaseException as error:
                self._fail(error)
                raise
            finally:
                self._budget.give(size)

        try:
            return self._workers.submit(run)
        except BaseException:
            self._budget.give(size)
            raise

    def read(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a job that reads and submits others, beside the caller; such jobs come one after the other."""
        self._raise_failure()
        return self._reader.submit(job, *args, **kwargs)

    def save(self, kind: BlobKind, data: Bytes) -> BlobId:
        """Store a blob unless it is known; its id. For worker threads: it hashes, compresses and seals right here."""
        found = blob_id(data)
        self.save_known(kind, found, data)
        return found

    def save_known(self, kind: BlobKind, found: BlobId, data: Bytes) -> None:
        """`save` for a blob whose id is already computed."""
        with self._lock:
            if self._index.has(kind, found) or (kind, found) in self._pending:
                return
            self._pending.add((kind, found))
        packed = self._compressor.compress(data)
        sealed = self._key.seal(data if packed is None else packed)
        self._append(kind, SealedBlob(found, sealed, 0 if packed is None else len(data), len(data)))

    def save_sealed(self, kind: BlobKind, blobs: Iterable[SealedBlob]) -> None:
        """Store blobs that a helper sealed, those that are not known yet."""
        with self._lock:
            for blob in blobs:
                if self._index.has(kind, blob.id) or (kind, blob.id) in self._pending:
                    continue
                self._pending.add((kind, blob.id))
                self._put_into_pack(kind, blob)

    def save_all(self, kind: BlobKind, pieces: Sequence[Bytes]) -> list[BlobId]:
        """`save` for many small blobs at once."""
        ids = [blob_id(piece) for piece in pieces]
        fresh: dict[BlobId, Bytes] = {}
        with self._lock:
            for found, piece in zip(ids, pieces, strict=True):
                if found not in fresh and not self._index.has(kind, found) and (kind, found) not in self._pending:
                    fresh[found] = piece
            self._pending.update((kind, found) for found in fresh)
        packed = self._compressor.compress_all(list(fresh.values()))
        for (found, piece), frame in zip(fresh.items(), packed, strict=True):
            sealed = self._key.seal(piece if frame is None else frame)
            self._append(kind, SealedBlob(found, sealed, 0 if frame is None else len(piece), len(piece)))
        return ids

    def copy_sealed(self, blob: PackedBlob, sealed: bytes) -> None:
        """Store a blob whose sealed bytes are at hand, into a new pack, even though the index knows it (repacking)."""
        self._append(blob.kind, SealedBlob(blob.id, sealed, blob.raw_length, blob.size))

    def has(self, kind: BlobKind, found: BlobId) -> bool:
        """Whether the blob is stored, or is on its way."""
        return self._index.has(kind, found) or (kind, found) in self._pending

    def finish(self) -> Added:
        """Wait for all jobs, upload what is left, write the index. Raises: the first failure of any thread."""
        self._reader.shutdown(wait=True)
        self._workers.shutdown(wait=True)
        self.helpers.close()
        self._raise_failure()
        with self._lock:
            for kind in list(self._open):
                self._close_pack(kind)
        self._uploads.shutdown(wait=True)
        self._raise_failure()
        self._write_index(force=True)
        return self.added

    def close(self) -> None:
        """Stop the threads, finished or not. Packs already uploaded are indexed, so that the next run re-uses them."""
        self._failure = self._failure or HoldfastError("the writer was closed")
        self._reader.shutdown(wait=True, cancel_futures=True)
        self._workers.shutdown(wait=True, cancel_futures=True)
        self.helpers.close()
        self._uploads.shutdown(wait=True)
        try:
            self._write_index(force=True)
        except HoldfastError as error:
            # The failure that brought us here is the one to report; packs without an index are found by prune.
            log.warning("cannot index what was uploaded: %s", error)

    def _append(self, kind: BlobKind, blob: SealedBlob) -> None:
        with self._lock:
            self._put_into_pack(kind, blob)

    def _put_into_pack(self, kind: BlobKind, blob: SealedBlob) -> None:
        """Under the lock, which others get while this waits for a buffer."""
        builder = self._open_pack(kind)
        builder.add(blob.id, blob.stored, blob.raw_length)
        self.added.blobs += 1
        self.added.bytes += blob.size
        if builder.size >= self._pack_size:
            self._close_pack(kind)

    def _open_pack(self, kind: BlobKind) -> PackBuilder:
        while kind not in self._open:
            if self._buffers:
                self._open[kind] = PackBuilder(kind, self._buffers.pop())
            else:
                self._buffer_back.wait()
        return self._open[kind]

    def _close_pack(self, kind: BlobKind) -> None:
        self._uploads.submit(self._upload, self._open.pop(kind))

    def _upload(self, builder: PackBuilder) -> None:
        try:
            if self._failure is not None:
                return
            data = builder.finish(self._key)
            name = name_of(data)
            self._before_upload()
            self._store.put(key_of(Folder.DATA, name), data)
            self._record(name, builder, len(data))
            self._write_index(force=False)
        except BaseException as error:  # noqa: BLE001  kept for the caller, who raises it from the next call
            self._fail(error)
        finally:
            with self._lock:
                self._buffers.append(builder.buffer)
                self._buffer_back.notify_all()

    def _record(self, name: str, builder: PackBuilder, stored: int) -> None:
        self._index.add(name, builder.blobs)
        with self._lock:
            self._pending.difference_update((blob.kind, blob.id) for blob in builder.blobs)
            self._unindexed[name] = builder.blobs
            self.added.stored += stored
            self.added.packs += 1

    def _write_index(self, *, force: bool) -> None:
        with self._lock:
            waiting = sum(map(len, self._unindexed.values()))
            late = time.monotonic() - self._indexed_at > _INDEX_EVERY_SECONDS
            if not waiting or not (force or late or waiting >= _INDEX_EVERY_BLOBS):
                return
            packs, self._unindexed = self._unindexed, {}
            self._indexed_at = time.monotonic()
        write_index_file(self._store, self._key, packs)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
