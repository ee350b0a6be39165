"""A store keeps bytes by key: the one seam between Holdfast and the place where backups live.

Rules that every store upholds (tests/conformance runs them over each):
- `put` is atomic and durable: after it returns the whole object is there; before, nothing is visible under the key.
- Keys are relative, `/`-separated, without empty, `.` or `..` parts. An invalid key is a ValueError, never a lookup.
- Only errors of `holdfast.errors` escape. Transient failures were already retried with backoff inside the store.
- `location` and every message are free of credentials.
- A store may be used from several threads at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

Bytes: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing tells of an object: its key, its size in bytes, when it was last written (Unix seconds)."""

    key: str
    size: int
    modified: float | None = None


class Store(Protocol):
    """Bytes by key."""

    @property
    def location(self) -> str:
        """Where this is, as an operator would write it, without credentials."""
        ...

    def create(self) -> None:
        """Make the bucket or directory if it is missing.

        Raises: StoreDenied, StoreUnavailable.
        """
        ...

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        """Store an object whole.

        Without `if_absent` an object of the same key is replaced. With it, the same bytes already there are a success
        and different bytes are an error; a store that cannot do this in one step reads before it writes. `data` is the
        caller's again when this returns or raises: a buffer is filled anew.

        Raises: ObjectExists, StoreMissing, StoreDenied, StoreUnavailable, StoreFull, DigestMismatch.
        """
        ...

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read an object, or `length` bytes from `offset`. A read past the end gives what is there, possibly nothing.

        Raises: ObjectNotFound, StoreMissing, StoreDenied, StoreUnavailable.
        """
        ...

    def head(self, key: str) -> ObjectInfo:
        """What is known of one object. Raises: ObjectNotFound, StoreMissing, StoreDenied, StoreUnavailable."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """The objects of one folder and all below it, in any order.

        `prefix` is a folder ("data", "index", "" for everything): `wal/app` never matches `wal/app2/…`.

        Raises: StoreMissing, StoreDenied, StoreUnavailable.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is gone is a success. Raises: StoreMissing, StoreDenied, StoreUnavailable."""
        ...

    def close(self) -> None:
        """Give back connections. The store is not used afterwards."""
        ...


def check_key(key: str) -> str:
    """The key itself when it is valid, else ValueError."""
    if not key or any(part in ("", ".", "..") for part in key.split("/")) or "\0" in key:
        raise ValueError(f"not a valid object key: {key!r}")
    return key


def folder(prefix: str) -> str:
    """A listing prefix that ends in a slash, so that `app` never matches `app2`; "" stays ""."""
    return f"{check_key(prefix.rstrip('/'))}/" if prefix else ""


def check_range(offset: int, length: int | None) -> None:
    """ValueError for a negative offset or length: to some stores they would mean "from the end"."""
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"not a valid range: offset {offset}, length {length}")


@runtime_checkable
class FillsBuffers(Protocol):
    """What a store may be able to do beside: read into memory that its caller uses again and again."""

    def get_into(self, key: str, buffer: bytearray | memoryview, *, offset: int = 0) -> int:
        """Fill a buffer with an object's bytes from `offset` on; how many came, fewer where the object ends.

        Raises: as `Store.get`.
        """
        ...
