"""Objects of a repository: where each kind lives on the store, and how the unpacked ones are encoded.

Rules upheld here:
- The name of every object but `config` is the SHA-256 of its stored bytes: it is checked on each whole read.
- An unpacked object is sealed; inside, version 2 puts a byte 2 before zstd, version 1 plain JSON, which starts with
  `{` or `[` (restic doc/design.rst, "Unpacked Data Format").
- What comes from the store is untrusted: a decompressed object is never larger than `MAX_PLAINTEXT`.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import zstandard

from holdfast.errors import CorruptObject
from holdfast.repository.crypto import AuthenticationError, MasterKey
from holdfast.store.base import Bytes, Store

MAX_PLAINTEXT = 1 << 29
"""Bytes that an index, snapshot or lock may have when decompressed: a larger one is an attack or a fault."""

_ZSTD_MARK = b"\x02"


class Folder(StrEnum):
    """The folders of the default layout, and Holdfast's own for its records (restic never looks there)."""

    DATA = "data"
    KEYS = "keys"
    LOCKS = "locks"
    SNAPSHOTS = "snapshots"
    INDEX = "index"
    PROOFS = "holdfast/proofs"
    VERIFICATIONS = "holdfast/verifications"
    MONITOR = "holdfast/monitor"
    MARKS = "holdfast/marks"
    FORGOTTEN = "holdfast/forgotten"


CONFIG = "config"


def key_of(folder: Folder, name: str) -> str:
    """The store key of an object: `index/…`, packs as `data/ab/abcd…`."""
    return f"{folder}/{name[:2]}/{name}" if folder is Folder.DATA else f"{folder}/{name}"


def name_of(data: Bytes) -> str:
    """The name of an object with these stored bytes."""
    return hashlib.sha256(data).hexdigest()


def seal_object(key: MasterKey, plaintext: bytes, *, compress: bool = True) -> bytes:
    """The stored bytes of an unpacked object."""
    if compress:
        plaintext = _ZSTD_MARK + zstandard.ZstdCompressor(level=3).compress(plaintext)
    return key.seal(plaintext)


def open_object(key: MasterKey, stored: bytes, store_key: str) -> bytes:
    """The plaintext of an unpacked object. Raises: CorruptObject."""
    try:
        plaintext = key.open(stored)
    except AuthenticationError as error:
        raise corrupt(store_key, "an authentic object", str(error)) from error
    if plaintext[:1] in (b"{", b"["):
        return plaintext
    if plaintext[:1] != _ZSTD_MARK:
        raise corrupt(store_key, "JSON or zstd", f"first byte {plaintext[:1].hex() or 'missing'}")
    return decompress(memoryview(plaintext)[1:], MAX_PLAINTEXT, store_key)


def decompress(data: Bytes, limit: int, what: str) -> bytes:
    """Unpack one zstd frame of at most `limit` bytes, whatever its header claims. Raises: CorruptObject."""
    try:
        claimed = zstandard.frame_content_size(data)
        most = claimed if 0 <= claimed < limit else limit  # -1: it does not say
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(bytes(data))
        plain = reader.read(most + 1)
    except (zstandard.ZstdError, MemoryError) as error:
        raise corrupt(what, "a zstd frame", str(error) or "one that needs too much memory") from error
    if len(plain) > most:
        raise corrupt(what, f"at most {most} bytes when decompressed", "more")
    return plain


def save_object(store: Store, key: MasterKey, folder: Folder, plaintext: bytes) -> str:
    """Seal and store an unpacked object under the name that its bytes give it; the name."""
    stored = seal_object(key, plaintext)
    name = name_of(stored)
    store.put(key_of(folder, name), stored)
    return name


def load_object(store: Store, key: MasterKey, folder: Folder, name: str) -> bytes:
    """Read an unpacked object whole, check its name against its bytes, open it.

    Raises: CorruptObject, ObjectNotFound and the store's other errors.
    """
    return open_named(key, folder, name, store.get(key_of(folder, name)))


def open_named(key: MasterKey, folder: Folder, name: str, stored: bytes) -> bytes:
    """Open an unpacked object that was read, once its bytes gave its name. Raises: CorruptObject."""
    store_key = key_of(folder, name)
    found = name_of(stored)
    if found != name:
        raise corrupt(store_key, "bytes whose SHA-256 is its name", f"{len(stored)} bytes with {found[:16]}…")
    return open_object(key, stored, store_key)


def corrupt(store_key: str, wanted: str, found: str) -> CorruptObject:
    """The error for stored bytes that are not what was written."""
    return CorruptObject(
        "stored data is damaged",
        which=store_key,
        wanted=wanted,
        found=found,
        hint="run `holdfast verify --read-data` to see all that is affected; everything it does not name is whole",
    )
