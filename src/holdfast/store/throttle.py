"""A bandwidth limit around any store: bytes are paid for before they move.

Rules upheld here:
- Over any stretch longer than one object's own time the rate holds; one object moves at full speed once its turn came.
- Threads share one account each way, in the order in which they ask.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from holdfast.store.base import Bytes, ObjectInfo, Store


class Account:
    """Gives each caller the instant at which its bytes may move.

    Args:
        rate: bytes per second; None for no limit.
        clock: monotonic seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        rate: int | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._free_at = 0.0
        self._lock = threading.Lock()

    def pay(self, size: int) -> None:
        """Wait until `size` more bytes may move."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at)
            self._free_at = start + size / self._rate
        if start > now:
            self._sleep(start - now)


class ThrottledStore:
    """Any store, held to `upload` and `download` bytes per second."""

    def __init__(self, store: Store, *, upload: int | None = None, download: int | None = None) -> None:
        self._store = store
        self._up, self._down = Account(upload), Account(download)

    @property
    def location(self) -> str:
        """See `Store.location`."""
        return self._store.location

    def create(self) -> None:
        """See `Store.create`."""
        self._store.create()

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        """See `Store.put`."""
        self._up.pay(len(data))
        self._store.put(key, data, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Store.get`. What was read is paid for afterwards by the next one: its size is not known before."""
        self._down.pay(0)
        data = self._store.get(key, offset=offset, length=length)
        self._down.pay(len(data))
        return data

    def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return self._store.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`."""
        return self._store.list(prefix)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._store.delete(key)

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()
