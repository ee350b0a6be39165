"""A store in memory: the working fake that tests run on, held to the same conformance suite as the real stores.

Rules upheld here:
- What `put` was given is copied: a caller that reuses its buffer changes nothing that is stored.
- It behaves as a bucket does, `missing` included: nothing works before `create()` on one that is not there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from holdfast.errors import ObjectExists, ObjectNotFound, StoreMissing
from holdfast.store.base import Bytes, ObjectInfo, check_key, check_range, folder


class MemoryStore:
    """Objects in a dictionary.

    Args:
        name: tells one store from another in messages.
        missing: start like a bucket that does not exist yet.
        clock: gives the time of writing, in Unix seconds.
    """

    atomic_if_absent = True

    def __init__(self, name: str = "test", *, missing: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._missing = missing
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, float]] = {}

    @property
    def location(self) -> str:
        """`memory:NAME`."""
        return f"memory:{self._name}"

    def create(self) -> None:
        """Let it exist."""
        self._missing = False

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        """See `Store.put`."""
        check_key(key)
        self._check_present()
        content = bytes(data)
        with self._lock:
            present = self._objects.get(key)
            if if_absent and present is not None:
                if present[0] != content:
                    raise ObjectExists("a different object has this key", which=self._which(key))
                return
            self._objects[key] = (content, self._clock())

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Store.get`."""
        check_range(offset, length)
        content, _ = self._object(key)
        return content[offset : None if length is None else offset + length]

    def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        content, modified = self._object(key)
        return ObjectInfo(key, len(content), modified)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`; the objects of the instant of the call."""
        start = folder(prefix)
        self._check_present()
        with self._lock:
            found = [ObjectInfo(key, len(content), at) for key, (content, at) in self._objects.items()]
        return (info for info in found if info.key.startswith(start))

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        check_key(key)
        self._check_present()
        with self._lock:
            self._objects.pop(key, None)

    def close(self) -> None:
        """Nothing to give back; the objects stay, so that a test can open the store again."""

    def _object(self, key: str) -> tuple[bytes, float]:
        check_key(key)
        self._check_present()
        with self._lock:
            found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound("no such object", which=self._which(key))
        return found

    def _check_present(self) -> None:
        if self._missing:
            raise StoreMissing("the store does not exist", which=self.location, hint="create() makes it")

    def _which(self, key: str) -> str:
        return f"{self.location}/{key}"
