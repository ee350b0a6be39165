"""Small files to sealed blobs, a batch at a time, in a process of its own: Python's cost per file goes to another core.

Rules upheld here:
- The key comes over the pipe: it is in no argument and in no environment variable.
- Nothing is known here of what is stored already: the process that asked decides what is new.
- It ends when its input ends, so that nothing is left when the process that asked is killed.

Messages on standard input and output: u32 LE length, then msgpack. First a `Setup`; then for each list of `Wanted` a
list of `Sealed`, in the same order.
"""

from __future__ import annotations

import errno
import signal
import struct
import sys
from typing import BinaryIO

import msgspec

from holdfast.repository.blobs import Compressor, blob_id
from holdfast.repository.chunker import MIN_SIZE
from holdfast.repository.crypto import MasterKey
from holdfast.repository.local_file import GrownTooLarge, Look, read_file

_LENGTH = struct.Struct("<I")
_NOTHING = Look(0, 0, 0, 0, 0, 0, 0, 0)


class Setup(msgspec.Struct, array_like=True):
    """What a helper needs to know: the master key as its own JSON, and zstd's level."""

    key: bytes
    level: int


class Wanted(msgspec.Struct, array_like=True):
    """A file to read; `fuzzy` as in `Entry`."""

    path: bytes
    fuzzy: bool


class Sealed(msgspec.Struct, array_like=True):
    """What became of one file.

    `error` is an errno, 0 when it was read. `blob` is empty for an empty file, and for one that has grown beyond one
    blob meanwhile (`size` tells which): that one is to be read by whoever asked. `raw_length` is 0 when `stored` holds
    the plaintext uncompressed.
    """

    error: int = 0
    changed: bool = False
    look: Look = _NOTHING
    size: int = 0
    blob: bytes = b""
    raw_length: int = 0
    stored: bytes = b""


def seal_files(key: MasterKey, compressor: Compressor, wanted: list[Wanted]) -> list[Sealed]:
    """Read, hash, compress and seal each file."""
    return [_seal_file(key, compressor, file) for file in wanted]


def _seal_file(key: MasterKey, compressor: Compressor, file: Wanted) -> Sealed:
    try:
        data, look, changed = read_file(file.path, fuzzy=file.fuzzy, most=MIN_SIZE)
    except GrownTooLarge as error:
        return Sealed(size=error.size)
    except OSError as error:
        return Sealed(error.errno or errno.EIO)
    if not data:
        return Sealed(0, changed, look)
    packed = compressor.compress(data)
    stored = key.seal(data if packed is None else packed)
    return Sealed(0, changed, look, len(data), blob_id(data), 0 if packed is None else len(data), stored)


def send(stream: BinaryIO, message: object) -> None:
    """Write one message. Raises: OSError when the other side is gone."""
    body = msgspec.msgpack.encode(message)
    stream.write(_LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """The next message's bytes; None at the end of the stream, also when it ends within a message."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return body if len(body) == length else None


def main() -> None:
    """Serve the process at the other end of the pipes until it is through."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who asked decides when to end
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    first = receive(asked)
    if first is None:
        return
    setup = msgspec.msgpack.decode(first, type=Setup)
    key, compressor = MasterKey.from_json(setup.key), Compressor(setup.level)
    decoder = msgspec.msgpack.Decoder(list[Wanted])
    while (message := receive(asked)) is not None:
        send(answers, seal_files(key, compressor, decoder.decode(message)))


if __name__ == "__main__":
    main()
