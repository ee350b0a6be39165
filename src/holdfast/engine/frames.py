"""The bytes of a command's output as the Engine multiplexes them: standard output out, the end of standard error kept.

Rules upheld here:
- A stream that ends inside a frame, or holds what is no frame, is `StreamCut`: never an early end.
- Memory holds one piece of the connection and the end of standard error.

Source: Engine API, "Attach to a container", stream format: 1 byte stream, 3 zero bytes, 4 bytes size (big-endian).
"""

from __future__ import annotations

from holdfast.engine.connection import Connection, StreamCut

STDERR_KEPT = 4096
_HEADER = 8
_PIECE = 128 << 10
_STDOUT, _STDERR, _SYSTEM = 1, 2, 3


class Frames:
    """Takes a connection's output apart."""

    def __init__(self, connection: Connection) -> None:
        self.stderr = b""
        self._connection = connection
        self._data = memoryview(b"")
        self._stream = 0
        self._left = 0

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of standard output; b"" at the end. Raises: StreamCut."""
        while True:
            if not self._left and not self._next_frame():
                return b""
            piece = self._take(min(self._left, size if self._stream == _STDOUT else _PIECE))
            self._left -= len(piece)
            if self._stream == _STDOUT:
                if piece:
                    return piece
            else:
                self.stderr = (self.stderr + piece)[-STDERR_KEPT:]
                if self._stream == _SYSTEM and not self._left:
                    raise StreamCut("the engine reports an error of its own")

    def _next_frame(self) -> bool:
        """Read a frame's header; False when the stream ended before it."""
        header = b""
        while len(header) < _HEADER:
            if not self._data and not self._fill():
                if header:
                    raise StreamCut("it ended inside a frame's header")
                return False
            header += self._take(_HEADER - len(header))
        self._stream, self._left = header[0], int.from_bytes(header[4:])
        if self._stream not in {_STDOUT, _STDERR, _SYSTEM} or any(header[1:4]):
            raise StreamCut("it holds what is not a frame")
        return True

    def _take(self, size: int) -> bytes:
        """Between one byte and `size`, from what is here, else from the connection."""
        if not size:
            return b""
        if not self._data and not self._fill():
            raise StreamCut(f"it ended {self._left} bytes before the end of a frame")
        piece, self._data = bytes(self._data[:size]), self._data[size:]
        return piece

    def _fill(self) -> bool:
        self._data = memoryview(self._connection.read())
        return bool(self._data)
