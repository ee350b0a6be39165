"""A tar stream as a server's base backup sends it, member by member, each read as it passes.

Rules upheld here:
- A member that is not read to its end, a stream without its end mark, or one with anything behind it is an error.
- The producer's exit status is believed last: the stream is read to its very end.

Source: PostgreSQL, src/port/tar.c and bbsink_tar; POSIX ustar. Names there have up to 99 bytes, without extensions.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from holdfast.errors import BaseBackupFailed
from holdfast.model.entry import ByteStream

_BLOCK = 512


class TarStream:
    """Reads members from a stream, in order."""

    def __init__(self, stream: ByteStream, which: str) -> None:
        self._stream, self._which = stream, which
        self._buffer = memoryview(b"")
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Each member's header; its content is read with `read` before the next one is asked for.

        Raises: BaseBackupFailed for a damaged or cut stream; what the stream raises when its producer failed.
        """
        while True:
            if self._left:
                raise self._broken(f"{self._left} bytes of a file were not read")
            self._exactly(self._padding)
            self._padding = 0
            header = self._exactly(_BLOCK)
            if not header.strip(b"\0"):
                self._end()
                return
            try:
                member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except tarfile.TarError as error:
                raise self._broken(str(error)) from error
            if member.isreg():
                self._left, self._padding = member.size, -member.size % _BLOCK
            yield member

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes of the present member; b"" at its end. Raises: as `members`."""
        size = min(size, self._left)
        if not size:
            return b""
        if not self._buffer:
            self._fill()
        piece = bytes(self._buffer[:size])
        self._buffer = self._buffer[size:]
        self._left -= len(piece)
        return piece

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            if not self._buffer:
                self._fill()
            piece = self._buffer[:size]
            self._buffer = self._buffer[size:]
            parts.append(bytes(piece))
            size -= len(piece)
        return b"".join(parts)

    def _fill(self) -> None:
        piece = self._stream.read(1 << 20)
        if not piece:
            raise self._broken("it ends in the middle")
        self._buffer = memoryview(piece)

    def _end(self) -> None:
        """Behind the end mark there are zeros only, and then the producer's success."""
        rest = bytes(self._buffer)
        while rest or (rest := self._stream.read(1 << 20)):
            if rest.strip(b"\0"):
                raise self._broken("there is something behind its end")
            rest = b""

    def _broken(self, found: str) -> BaseBackupFailed:
        return BaseBackupFailed("the stream of the base backup is damaged", which=self._which, found=found)
