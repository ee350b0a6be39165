"""A store that fails on purpose, around any real one, by a plan: which call, on which key, and how.

Rules upheld here:
- Deterministic: a rule counts the calls that it matches and acts on the n-th; nothing depends on chance or time.
- What a fault does is what a real store could do: an error before the work, an acknowledgement that got lost after it,
  wrong or missing bytes, or the end of our own process.

    store = FaultyStore(MemoryStore(), Rule("put", "data/*", Lost(), at=3), Rule("get", "index/*", Truncated(10)))
"""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from holdfast.errors import HoldfastError, StoreUnavailable
from holdfast.store.base import Bytes, ObjectInfo, Store

T = TypeVar("T")


class SimulatedCrash(BaseException):
    """The process "died" here: no `except Exception` of the code under test may go on after it."""


class Fault(Protocol):
    """Does something else than the call that it stands for."""

    def __call__(self, work: Callable[[], T], /) -> T: ...


@dataclass(frozen=True)
class Fails:
    """An error instead of the work; by default the one that a store raises when its retries are used up."""

    error: Callable[[], HoldfastError] = lambda: StoreUnavailable("the store timed out", which="a planned fault")

    def __call__(self, work: Callable[[], T], /) -> T:
        raise self.error()


@dataclass(frozen=True)
class Lost:
    """The work is done, and the answer never arrives."""

    def __call__(self, work: Callable[[], T], /) -> T:
        work()
        raise StoreUnavailable("the answer of the store got lost", which="a planned fault")


@dataclass(frozen=True)
class Crashes:
    """The process ends before the work is done, or right after it; every later call finds it dead."""

    after: bool = False

    def __call__(self, work: Callable[[], T], /) -> T:
        if self.after:
            work()
        raise SimulatedCrash


@dataclass(frozen=True)
class Truncated:
    """A read gives only the first `keep` bytes."""

    keep: int

    def __call__(self, work: Callable[[], T], /) -> T:
        return _of_bytes(work(), lambda data: data[: self.keep])


@dataclass(frozen=True)
class Damaged:
    """A read gives the right length with one byte changed, counted from the start, or from the end when negative."""

    at: int = 0

    def __call__(self, work: Callable[[], T], /) -> T:
        def flip(data: bytes) -> bytes:
            changed = bytearray(data)
            changed[self.at] ^= 0x01
            return bytes(changed)

        return _of_bytes(work(), flip)


@dataclass(frozen=True)
class Slow:
    """The work takes `seconds` longer."""

    seconds: float

    def __call__(self, work: Callable[[], T], /) -> T:
        time.sleep(self.seconds)
        return work()


@dataclass(frozen=True)
class Lags:
    """A listing does not show the newest `hidden` objects yet."""

    hidden: int = 1

    def __call__(self, work: Callable[[], T], /) -> T:
        found: Any = work()  # the iterator of a `list`
        listed: Any = iter(sorted(found, key=lambda info: info.modified or 0.0)[: -self.hidden])
        return cast("T", listed)


@dataclass
class Rule:
    """One entry of a plan: from the `at`-th call that matches (1 is the first), `times` times (None: for ever).

    `operation` and `key` are patterns as in file names; the key of `list` is its prefix, that of `create` is "".
    """

    operation: str
    key: str
    fault: Fault
    at: int = 1
    times: int | None = 1
    matched: int = field(default=0, init=False)

    def due(self, operation: str, key: str) -> bool:
        """Count a call, and say whether the fault is due."""
        if not (fnmatch.fnmatchcase(operation, self.operation) and fnmatch.fnmatchcase(key, self.key)):
            return False
        self.matched += 1
        return self.matched >= self.at and (self.times is None or self.matched < self.at + self.times)


class FaultyStore:
    """Any store, with a plan. The first rule that is due acts; every call is written down in `calls`."""

    def __init__(self, store: Store, *plan: Rule) -> None:
        self.calls: list[tuple[str, str]] = []
        self.plan = [*plan]
        self._store = store
        self._lock = threading.Lock()
        self._dead = False

    @property
    def location(self) -> str:
        return self._store.location

    def create(self) -> None:
        self._do("create", "", self._store.create)

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        self._do("put", key, lambda: self._store.put(key, data, if_absent=if_absent))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return self._do("get", key, lambda: self._store.get(key, offset=offset, length=length))

    def head(self, key: str) -> ObjectInfo:
        return self._do("head", key, lambda: self._store.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._do("list", prefix, lambda: self._store.list(prefix))

    def delete(self, key: str) -> None:
        self._do("delete", key, lambda: self._store.delete(key))

    def close(self) -> None:
        self._store.close()

    def _do(self, operation: str, key: str, work: Callable[[], T]) -> T:
        with self._lock:
            if self._dead:
                raise SimulatedCrash
            self.calls.append((operation, key))
            due = [rule.fault for rule in self.plan if rule.due(operation, key)]
        if not due:
            return work()
        try:
            return due[0](work)
        except SimulatedCrash:
            self._dead = True
            raise


def _of_bytes(answer: T, change: Callable[[bytes], bytes]) -> T:
    if not isinstance(answer, bytes):
        raise TypeError("only a `get` has bytes to damage: the plan is wrong")
    return change(answer)  # type: ignore[return-value] # T is bytes here, which mypy cannot conclude
