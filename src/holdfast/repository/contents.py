"""Reading the contents of entries into blobs: small files in batches, others alone, streams on the reading thread.

Rules upheld here:
- A local file is opened without following a symlink or blocking on a FIFO, and it must still be the regular file that
  was listed.
- It was still while it was read, or it is read again, or it is recorded as changing: `stat` before and after.
  A file that vanished or cannot be read is recorded, never passed over in silence.
- The node's size and times come from the open file, so that they belong to the bytes that were read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from holdfast.model.entry import ByteStream, Entry, LateContent, LocalFile
from holdfast.repository.chunker import (
    MAX_SIZE,
    MIN_SIZE,
    FileRange,
    cut_buffer,
    cut_fixed,
    cut_stream,
    data_and_holes,
    fixed_groups,
)
from holdfast.repository.pack import BlobKind
from holdfast.repository.writer import BlobWriter

BATCH_FILES = 64
BATCH_BYTES = 2 << 20
_WHOLE_FILE = 4 << 20
"""Files up to this size are read by one worker in one piece; larger ones by the reading thread, chunk by chunk."""

_TRIES = 3
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


@dataclass(slots=True)
class Captured:
    """What became of one entry's content: its blobs in order, and what went wrong, in words."""

    content: list[str] = field(default_factory=list)
    size: int = 0
    vanished: bool = False
    problem: str | None = None
    changed: bool = False
    absent: bool = False


class PendingFile:
    """One file whose content is on its way: `result` waits for it."""

    __slots__ = ("_futures", "_position", "entry", "outcome")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.outcome = Captured()
        self._futures: list[Future[list[str]]] | Future[list[Captured]] | None = None
        self._position = 0

    def wait_for_chunks(self, futures: list[Future[list[str]]]) -> None:
        """The content is the blobs of these jobs, in order."""
        self._futures = futures

    def wait_in_batch(self, future: Future[list[Captured]], position: int) -> None:
        """The content is one of the results of a batch."""
        self._futures, self._position = future, position

    @property
    def submitted(self) -> bool:
        """Whether `result` can be waited for."""
        return self._futures is not None

    def done(self) -> bool:
        """Whether `result` returns at once."""
        if isinstance(self._futures, Future):
            return self._futures.done()
        return self._futures is not None and all(future.done() for future in self._futures)

    def result(self) -> Captured:
        """The captured content. Raises what the job raised."""
        if isinstance(self._futures, Future):
            self.outcome = self._futures.result()[self._position]
        elif self._futures:
            self.outcome.content = [blob for future in self._futures for blob in future.result()]
        self._futures = []
        return self.outcome


class LateFile(PendingFile):
    """A file whose content is known only at the end (`LateContent`)."""

    __slots__ = ("_content", "_save")

    def __init__(self, entry: Entry, content: LateContent, save: Callable[[bytes], str]) -> None:
        super().__init__(entry)
        self._content, self._save = content, save

    @property
    def submitted(self) -> bool:
        """Nothing has to be handed to a worker."""
        return True

    def done(self) -> bool:
        """Whether the source has said what it is."""
        return self._content.known

    def result(self) -> Captured:
        """The content, saved now. Raises: ValueError while it is not known."""
        if not self._content.known:
            raise ValueError("the source ended without saying what a late content is")
        data = self._content.data
        if data is None:
            return Captured(absent=True)
        self.entry.size = len(data)
        return Captured([self._save(data)] if data else [], len(data))


@dataclass(frozen=True, slots=True)
class HeldContent:
    """A content that was read before its entry's turn came."""

    pending: PendingFile

    def open(self) -> ByteStream:
        """It was read already, and cannot be read again."""
        raise ValueError("this content was read already")


class ContentReader:
    """Turns contents into blobs through a `BlobWriter`."""

    def __init__(self, blobs: BlobWriter, on_bytes: Callable[[int], None]) -> None:
        self._blobs = blobs
        self._on_bytes = on_bytes
        self._batch: list[PendingFile] = []
        self._batch_bytes = 0
        self._zeros: dict[int, Future[list[str]]] = {}

    def read(self, entry: Entry) -> PendingFile:
        """Start to capture a regular file's content. A stream is read to its end before this returns.

        Raises: SourceError from a stream whose producer failed; the first failure of any worker.
        """
        pending = PendingFile(entry)
        content = entry.content
        if isinstance(content, LocalFile):
            if entry.size <= MIN_SIZE:
                self._add_to_batch(pending)
            elif entry.size <= _WHOLE_FILE:
                pending.wait_in_batch(self._blobs.submit(entry.size, self._read_files, [entry]), 0)
            else:
                self._read_large(pending, content.path)
        elif content is not None:
            self._read_stream(pending, content.open())
        return pending

    def flush(self) -> None:
        """Hand the batch that is being collected to a worker."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        size, self._batch_bytes = self._batch_bytes, 0
        future = self._blobs.submit(size, self._read_files, [pending.entry for pending in batch])
        for position, pending in enumerate(batch):
            pending.wait_in_batch(future, position)

    def _add_to_batch(self, pending: PendingFile) -> None:
        self._batch.append(pending)
        self._batch_bytes += pending.entry.size
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    # --- in a worker --------------------------------------------------------------------------------------------------

    def _read_files(self, entries: list[Entry]) -> list[Captured]:
        return [self._read_whole(entry) for entry in entries]

    def _read_whole(self, entry: Entry) -> Captured:
        assert isinstance(entry.content, LocalFile)  # noqa: S101  read() sorts contents by type
        captured = Captured()
        try:
            fd = open_file(entry.content.path)
        except OSError as error:
            return _failed(captured, error)
        try:
            data = _read_still(fd, entry, captured)
        except OSError as error:
            return _failed(captured, error)
        finally:
            os.close(fd)
        if entry.inspect is not None:
            entry.inspect(0, memoryview(data))
        captured.content = self._save_pieces(data, entry.cut)
        captured.size = entry.size = len(data)
        self._on_bytes(len(data))
        return captured

    def _save_group(self, group: memoryview, offset: int, entry: Entry) -> list[str]:
        if entry.inspect is not None:
            entry.inspect(offset, group)
        return self._save_pieces(group, entry.cut)

    def _save_pieces(self, data: bytes | memoryview, cut: int) -> list[str]:
        if cut:
            return [found.hex() for found in self._blobs.save_all(BlobKind.DATA, list(cut_fixed(data, cut)))]
        pieces = cut_buffer(bytes(data))
        return [self._blobs.save(BlobKind.DATA, piece).hex() for piece in pieces]

    def _save_chunk(self, chunk: memoryview) -> list[str]:
        return [self._blobs.save(BlobKind.DATA, chunk).hex()]

    # --- on the reading thread ----------------------------------------------------------------------------------------

    def _read_stream(self, pending: PendingFile, stream: ByteStream) -> None:
        try:
            futures, size = self._submit_stream(stream, pending.entry)
        finally:
            stream.close()
        pending.outcome.size = pending.entry.size = size
        pending.wait_for_chunks(futures)

    def _read_large(self, pending: PendingFile, path: bytes) -> None:
        entry, captured = pending.entry, pending.outcome
        futures: list[Future[list[str]]] = []
        try:
            fd = open_file(path)
            try:
                for attempt in range(_TRIES):
                    before = _regular(fd)
                    futures, size = self._read_ranges(fd, before, entry)
                    captured.size = size
                    captured.changed = _adopt(entry, before, os.fstat(fd), size)
                    if not captured.changed or attempt == _TRIES - 1:
                        break
            finally:
                os.close(fd)
        except OSError as error:
            _failed(captured, error)
            futures = []
        pending.wait_for_chunks(futures)

    def _read_ranges(self, fd: int, status: os.stat_result, entry: Entry) -> tuple[list[Future[list[str]]], int]:
        futures: list[Future[list[str]]] = []
        size = 0
        sparse = status.st_blocks * 512 < status.st_size and not entry.cut
        ranges: Iterable[tuple[int, int, bool]] = (
            data_and_holes(fd, status.st_size) if sparse else [(0, status.st_size, False)]
        )
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        # Pages that only a backup reads must not push out what the application works with (Linux 6.3; no-op before).
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_NOREUSE)
        for start, end, hole in ranges:
            if hole:
                futures.extend(self._zero_chunks(end - start))
                size += end - start
            else:
                more, count = self._submit_stream(FileRange(fd, start, end), entry)
                futures.extend(more)
                size += count
        return futures, size

    def _submit_stream(self, stream: ByteStream, entry: Entry) -> tuple[list[Future[list[str]]], int]:
        if not entry.cut:
            return self._cut_and_submit(cut_stream(stream))
        futures: list[Future[list[str]]] = []
        size = 0
        for group in fixed_groups(stream, entry.cut):
            futures.append(self._blobs.submit(len(group), self._save_group, group, size, entry))
            size += len(group)
            self._on_bytes(len(group))
        return futures, size

    def _cut_and_submit(self, chunks: Iterable[memoryview]) -> tuple[list[Future[list[str]]], int]:
        futures: list[Future[list[str]]] = []
        size = 0
        for chunk in chunks:
            futures.append(self._blobs.submit(len(chunk), self._save_chunk, chunk))
            size += len(chunk)
            self._on_bytes(len(chunk))
        return futures, size

    def _zero_chunks(self, size: int) -> list[Future[list[str]]]:
        self._on_bytes(size)
        whole, rest = divmod(size, MAX_SIZE)
        return [self._zeros_of(MAX_SIZE)] * whole + ([self._zeros_of(rest)] if rest else [])

    def _zeros_of(self, size: int) -> Future[list[str]]:
        future = self._zeros.get(size)
        if future is None:
            future = self._blobs.submit(size, self._save_chunk, memoryview(bytes(size)))
            # Only the whole chunk comes again and again; remainders would fill the memory of many sparse files.
            if size == MAX_SIZE:
                self._zeros[size] = future
        return future


def open_file(path: bytes) -> int:
    """A descriptor to read a file: no symlink is followed, a FIFO does not block, atime stays where that is allowed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return os.open(path, flags)


def _regular(fd: int) -> os.stat_result:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, "no longer a regular file")
    return status


def _read_still(fd: int, entry: Entry, captured: Captured) -> bytes:
    """The file's bytes; read again when it changed meanwhile, and marked when it never held still."""
    for _ in range(_TRIES):
        before = _regular(fd)
        data = _read_all(fd, before.st_size)
        captured.changed = _adopt(entry, before, os.fstat(fd), len(data))
        if not captured.changed:
            break
    return data


def _read_all(fd: int, size: int) -> bytes:
    # One byte more than expected: a file that grew shows it here, and the end is seen without a second call.
    data = os.pread(fd, size + 1, 0)
    if len(data) == size:
        return data
    parts, at = [data], len(data)
    while at < size and (piece := os.pread(fd, size - at, at)):
        parts.append(piece)
        at += len(piece)
    return b"".join(parts)


def _adopt(entry: Entry, before: os.stat_result, after: os.stat_result, size: int) -> bool:
    """Give the entry the open file's metadata; whether the file changed while it was read."""
    entry.mtime_ns, entry.ctime_ns = before.st_mtime_ns, before.st_ctime_ns
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(before.st_mode), before.st_uid, before.st_gid
    entry.inode, entry.device, entry.links = before.st_ino, before.st_dev, before.st_nlink
    entry.size = size
    if entry.fuzzy:
        return False
    still = (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    return not (still and size == before.st_size == after.st_size)


def _failed(captured: Captured, error: OSError) -> Captured:
    captured.content = []
    if error.errno in _GONE or error.errno == errno.ELOOP:
        captured.vanished = True
    else:
        captured.problem = error.strerror or str(error)
    return captured
