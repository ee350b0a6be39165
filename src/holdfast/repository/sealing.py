"""Small files to sealed blobs, a batch at a time, in a process of its own: Python's cost per file goes to another core.

Rules upheld here:
- Nothing is known here of what is stored already: the process that asked decides what is new.
- For each list of `Wanted` it answers a list of `Sealed`, in the same order.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import msgspec

from holdfast.repository.blobs import Compressor, blob_id
from holdfast.repository.chunker import MIN_SIZE
from holdfast.repository.crypto import MasterKey
from holdfast.repository.local_file import GrownTooLarge, Look, read_file
from holdfast.repository.processes import Program, serve

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


SEALING: Program[list[Sealed]] = Program("holdfast.repository.sealing", list[Sealed])


def _begin(setup: Setup) -> Callable[[list[Wanted]], list[Sealed]]:
    key, compressor = MasterKey.from_json(setup.key), Compressor(setup.level)
    return lambda wanted: seal_files(key, compressor, wanted)


if __name__ == "__main__":
    serve(Setup, list[Wanted], _begin)
