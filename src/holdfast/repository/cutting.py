"""Contents that are cut as they come: large files and streams, each piece handed to a worker.

Rules upheld here:
- A large file that changes while it is read is read again, then recorded as changing.
- Holes are not read; their zeros are saved once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from holdfast.model.entry import ByteStream, Entry
from holdfast.repository.chunker import MAX_SIZE, FileRange, cut_stream, data_and_holes, fixed_groups
from holdfast.repository.local_file import TRIES, held_still, look_of, open_file, status_of
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import PendingFile, Pieces
from holdfast.repository.saving import adopt, failed, save_group
from holdfast.repository.writer import BlobWriter


class Cutter:
    """Reads large files and streams; `on_bytes` is told how many bytes were read."""

    def __init__(self, blobs: BlobWriter, on_bytes: Callable[[int], None]) -> None:
        self._blobs, self._on_bytes = blobs, on_bytes
        self._zeros: dict[int, Future[list[str]]] = {}

    def read_stream(self, pending: PendingFile, stream: ByteStream) -> None:
        """Read a stream to its end. Raises: SourceError when its producer failed."""
        pieces = Pieces()
        try:
            size = self._submit_stream(stream, pending.entry, pieces)
        finally:
            stream.close()
        pending.outcome.size = pending.entry.size = size
        pending.wait_for_pieces(pieces)

    def read_large(self, pending: PendingFile, path: bytes) -> Pieces:
        """Read a large file; what went wrong with it is in its outcome."""
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
                    adopt(entry, look_of(before), size)
                    if not captured.changed:
                        break
            finally:
                os.close(fd)
        except OSError as error:
            failed(captured, error)
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
            pieces.add(self._blobs.submit(len(group), save_group, self._blobs, group, size, entry))
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

    def _save_chunk(self, chunk: memoryview) -> list[str]:
        return [self._blobs.save(BlobKind.DATA, chunk).hex()]
