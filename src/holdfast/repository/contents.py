"""Reading the contents of entries into blobs: small files in batches, large ones one after the other, streams at once.

Rules upheld here:
- A file that changes while it is read is read again, or recorded as changing (`local_file`); one that vanished or
  cannot be read is recorded, never passed over in silence.
- Batches of small files go to helper processes, large ones stay here, where the libraries that do the work release
  Python's lock: a thread reads and cuts them while the walk goes on, `_AHEAD` files at most.
- The node's size and times come from the open file, so that they belong to the bytes that were read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait

from holdfast.model.entry import ByteStream, Entry, LocalFile
from holdfast.model.ids import BlobId
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
from holdfast.repository.local_file import (
    TRIES,
    GrownTooLarge,
    Look,
    held_still,
    is_gone,
    look_of,
    open_file,
    read_file,
    status_of,
)
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import Captured, PendingFile, Pieces
from holdfast.repository.sealing import Sealed, Wanted
from holdfast.repository.writer import BlobWriter, SealedBlob

BATCH_FILES = 64
BATCH_BYTES = 2 << 20
_WHOLE_FILE = 4 << 20
"""Files up to this size are read by one worker in one piece; larger ones by a thread of their own, chunk by chunk."""
_AHEAD = 2
_TICK_SECONDS = 0.5


class ContentReader:
    """Turns contents into blobs through a `BlobWriter`.

    Args:
        blobs: where they go.
        on_bytes: told how many bytes were read, from several threads.
        on_wait: called now and then while large files are waited for.
    """

    def __init__(
        self, blobs: BlobWriter, on_bytes: Callable[[int], None], on_wait: Callable[[], None] = lambda: None
    ) -> None:
        self._blobs = blobs
        self._on_bytes, self._on_wait = on_bytes, on_wait
        self._large: deque[Future[Pieces]] = deque()
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
                self._wait_for_large(_AHEAD - 1)
                reading = self._blobs.read(self._read_large, pending, content.path)
                self._large.append(reading)
                pending.wait_for_reading(reading)
        elif content is not None:
            self._read_stream(pending, content.open())
        return pending

    def flush(self) -> None:
        """Hand the batch that is being collected to a worker."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        size, self._batch_bytes = self._batch_bytes, 0
        future = self._blobs.submit(size, self._read_batch, [pending.entry for pending in batch])
        for position, pending in enumerate(batch):
            pending.wait_in_batch(future, position)

    def wait(self) -> None:
        """Wait until all large files were read. Raises: the first failure of any worker."""
        self._wait_for_large(0)

    def _wait_for_large(self, left: int) -> None:
        while len(self._large) > left:
            if wait([self._large[0]], _TICK_SECONDS).done:
                self._large.popleft().result()
            else:
                self._on_wait()

    def _add_to_batch(self, pending: PendingFile) -> None:
        self._batch.append(pending)
        self._batch_bytes += pending.entry.size
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    # --- in a worker --------------------------------------------------------------------------------------------------

    def _read_files(self, entries: list[Entry]) -> list[Captured]:
        return [self._read_whole(entry) for entry in entries]

    def _read_batch(self, entries: list[Entry]) -> list[Captured]:
        """Small files: by a helper process, if there is one."""
        if any(entry.inspect is not None or entry.cut for entry in entries):
            return self._read_files(entries)
        sealed = self._blobs.helpers.seal([Wanted(_path(entry), entry.fuzzy) for entry in entries])
        if sealed is None:
            return self._read_files(entries)
        new = [SealedBlob(BlobId(file.blob), file.stored, file.raw_length, file.size) for file in sealed if file.blob]
        self._blobs.save_sealed(BlobKind.DATA, new)
        return [self._read_sealed(entry, file) for entry, file in zip(entries, sealed, strict=True)]

    def _read_sealed(self, entry: Entry, file: Sealed) -> Captured:
        if file.error:
            return _failed(Captured(), OSError(file.error, os.strerror(file.error)))
        if file.size and not file.blob:
            return self._read_whole(entry)  # it has grown beyond one blob
        _adopt(entry, file.look, file.size)
        self._on_bytes(file.size)
        return Captured([file.blob.hex()] if file.blob else [], file.size, changed=file.changed)

    def _read_whole(self, entry: Entry) -> Captured:
        try:
            data, look, changed = read_file(_path(entry), fuzzy=entry.fuzzy, most=_WHOLE_FILE)
        except GrownTooLarge:
            return self._read_grown(entry)
        except OSError as error:
            return _failed(Captured(), error)
        if entry.inspect is not None:
            entry.inspect(0, memoryview(data))
        _adopt(entry, look, len(data))
        content = self._save_pieces(data, entry.cut)
        self._on_bytes(len(data))
        return Captured(content, len(data), changed=changed)

    def _read_grown(self, entry: Entry) -> Captured:
        """A file that was small when it was listed: piece by piece, right here, once."""
        captured = Captured()
        try:
            fd = open_file(_path(entry))
            try:
                before = status_of(fd)
                stream = FileRange(fd, 0, before.st_size)
                pieces = fixed_groups(stream, entry.cut) if entry.cut else cut_stream(stream)
                for piece in pieces:
                    captured.content += self._save_group(piece, captured.size, entry)
                    captured.size += len(piece)
                    self._on_bytes(len(piece))
                captured.changed = not entry.fuzzy and not held_still(before, os.fstat(fd), captured.size)
            finally:
                os.close(fd)
        except OSError as error:
            return _failed(captured, error)
        _adopt(entry, look_of(before), captured.size)
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

    # --- on the caller's thread, or the one that reads large files ----------------------------------------------------

    def _read_stream(self, pending: PendingFile, stream: ByteStream) -> None:
        pieces = Pieces()
        try:
            size = self._submit_stream(stream, pending.entry, pieces)
        finally:
            stream.close()
        pending.outcome.size = pending.entry.size = size
        pending.wait_for_pieces(pieces)

    def _read_large(self, pending: PendingFile, path: bytes) -> Pieces:
        entry, captured = pending.entry, pending.outcome
        try:
            fd = open_file(path)
            try:
                for _ in range(TRIES):
                    pieces = Pieces()
                    before = status_of(fd)
                    size = self._read_ranges(fd, before, entry, pieces)
                    captured.size = size
                    captured.changed = not entry.fuzzy and not held_still(before, os.fstat(fd), size)
                    _adopt(entry, look_of(before), size)
                    if not captured.changed:
                        break
            finally:
                os.close(fd)
        except OSError as error:
            _failed(captured, error)
            return Pieces()
        return pieces

    def _read_ranges(self, fd: int, status: os.stat_result, entry: Entry, pieces: Pieces) -> int:
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
                self._add_zeros(end - start, pieces)
                size += end - start
            else:
                size += self._submit_stream(FileRange(fd, start, end), entry, pieces)
        return size

    def _submit_stream(self, stream: ByteStream, entry: Entry, pieces: Pieces) -> int:
        if not entry.cut:
            return self._cut_and_submit(cut_stream(stream), pieces)
        size = 0
        for group in fixed_groups(stream, entry.cut):
            pieces.add(self._blobs.submit(len(group), self._save_group, group, size, entry))
            size += len(group)
            self._on_bytes(len(group))
        return size

    def _cut_and_submit(self, chunks: Iterable[memoryview], pieces: Pieces) -> int:
        size = 0
        for chunk in chunks:
            pieces.add(self._blobs.submit(len(chunk), self._save_chunk, chunk))
            size += len(chunk)
            self._on_bytes(len(chunk))
        return size

    def _add_zeros(self, size: int, pieces: Pieces) -> None:
        self._on_bytes(size)
        whole, rest = divmod(size, MAX_SIZE)
        for _ in range(whole):
            pieces.add(self._zeros_of(MAX_SIZE))
        if rest:
            pieces.add(self._zeros_of(rest))

    def _zeros_of(self, size: int) -> Future[list[str]]:
        future = self._zeros.get(size)
        if future is None:
            future = self._blobs.submit(size, self._save_chunk, memoryview(bytes(size)))
            # Only the whole chunk comes again and again; remainders would fill the memory of many sparse files.
            if size == MAX_SIZE:
                self._zeros[size] = future
        return future


def _path(entry: Entry) -> bytes:
    assert isinstance(entry.content, LocalFile)  # noqa: S101  read() sorts contents by type
    return entry.content.path


def _adopt(entry: Entry, look: Look, size: int) -> None:
    """Give the entry the open file's metadata."""
    entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.ctime_ns = look[:5]
    entry.inode, entry.device, entry.links = look[5:]
    entry.size = size


def _failed(captured: Captured, error: OSError) -> Captured:
    captured.content = []
    if is_gone(error):
        captured.vanished = True
    else:
        captured.problem = error.strerror or str(error)
    return captured
