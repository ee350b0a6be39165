"""Cutting content into blobs.

Rules upheld here:
- Cut points depend on content alone, never on how it arrived: the same bytes give the same blobs from any buffer size.
- A hole of a sparse file becomes zero blobs that are hashed once per process, not read.
- A file that is rewritten in place (`Entry.cut`) is cut at multiples of a fixed size instead.

FastCDC with restic's bounds (512 KiB, 1 MiB, 8 MiB). Which chunker a writer uses is its own affair: any cut is valid
in the format. Source: restic doc/design.rst, "Backups and Deduplication"; Xia et al., FastCDC (USENIX ATC 2016).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from pyfastcdc import FastCDC

from holdfast.model.entry import ByteStream

MIN_SIZE, AVERAGE_SIZE, MAX_SIZE = 512 << 10, 1 << 20, 8 << 20

GROUP = 1 << 20
"""Bytes of small blobs that one worker saves in one go."""

_SEGMENT = 2 << 20
"""Bytes that are read at a time. Chunks that wait for a worker hold the whole segment that they are a part of."""


def _cutter() -> FastCDC:
    # The object keeps no state between calls, but making one per use keeps threads apart and costs a microsecond.
    return FastCDC(avg_size=AVERAGE_SIZE, min_size=MIN_SIZE, max_size=MAX_SIZE)


def cut_buffer(data: bytes) -> list[memoryview]:
    """The chunks of content that is in memory whole; none for no bytes."""
    if len(data) <= MIN_SIZE:
        return [memoryview(data)] if data else []
    view = memoryview(data)
    return [view[chunk.offset : chunk.offset + chunk.length] for chunk in _cutter().cut_buf(data)]


def cut_fixed(data: bytes | memoryview, size: int) -> list[memoryview]:
    """Pieces of exactly `size` bytes, the last one as long as what is left; none for no bytes."""
    view = memoryview(data)
    return [view[at : at + size] for at in range(0, len(view), size)]


def fixed_groups(stream: ByteStream, size: int) -> Iterator[memoryview]:
    """A stream in groups of whole pieces of `size` bytes, about `GROUP` bytes each; only the last may end unevenly."""
    group = max(size, GROUP // size * size)
    while True:
        parts, have = [], 0
        while have < group and (piece := stream.read(group - have)):
            parts.append(piece)
            have += len(piece)
        if not have:
            return
        yield memoryview(parts[0] if len(parts) == 1 else b"".join(parts))


def cut_stream(stream: ByteStream) -> Iterator[memoryview]:
    """The chunks of a stream, in order; holds little more than the chunk that is being looked for."""
    carry = b""
    while True:
        segment, ended = _fill(stream, carry)
        chunks = cut_buffer(segment)
        if ended:
            yield from chunks
            return
        # The last chunk ends where the buffer ends, not where the content says: it is cut again with what follows.
        yield from chunks[:-1]
        carry = bytes(chunks[-1])


def _fill(stream: ByteStream, carry: bytes) -> tuple[bytes, bool]:
    """What is left over, and the next `_SEGMENT` bytes; whether the stream has ended."""
    parts, missing = [carry], _SEGMENT
    while missing > 0:
        piece = stream.read(missing)
        if not piece:
            return b"".join(parts), True
        parts.append(piece)
        missing -= len(piece)
    return b"".join(parts), False


class FileRange:
    """A stream over one range of an open file, by `pread`: the file's own position is not used."""

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd, self._at, self._end = fd, start, end

    def read(self, size: int, /) -> bytes:
        """The next bytes; fewer than the range has when the file shrank."""
        piece = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(piece)
        return piece

    def close(self) -> None:
        """The file belongs to whoever opened it."""


def data_and_holes(fd: int, size: int) -> Iterator[tuple[int, int, bool]]:
    """The file's ranges as (start, end, is_hole), without gaps, from 0 to `size`."""
    at = 0
    while at < size:
        try:
            data = min(os.lseek(fd, at, os.SEEK_DATA), size)
        except OSError as error:
            # ENXIO: nothing but a hole up to the end; anything else: a filesystem that does not tell, all is data.
            if error.errno != errno.ENXIO:
                yield at, size, False
                return
            data = size
        if data > at:
            yield at, data, True
        if data < size:
            at = min(os.lseek(fd, data, os.SEEK_HOLE), size)
            yield data, at, False
        else:
            at = size
