"""Locks, as restic keeps them: objects under `locks/` that say who works on the repository and whether alone.

Rules upheld here:
- A lock counts only after it was written *and* the list was read again: two that start at once both see each other.
  Who asks for one that is not settled yet may use the time until then, and settles it before anything is stored or
  believed. What it reads meanwhile stays true only because nobody who deletes can have missed its lock: where one may
  have (writing took so long that another settled, or a lock that excludes this one was not judged), it settles first.
- A lock is refreshed every five minutes; one that nobody holds any more blocks nobody (`lock_objects`).
- Work that deletes holds an exclusive lock; everything else that reads or adds holds a shared one.
- A lock that could not be refreshed in time is lost: `ensure_held` says so before anything is committed or deleted.

Source: restic doc/design.rst, "Locks".
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import msgspec

from holdfast.errors import HoldfastError, ObjectNotFound, RepositoryLocked
from holdfast.repository.crypto import MasterKey
from holdfast.repository.lock_objects import (
    STALE_SECONDS,
    Held,
    LockJson,
    list_locks,
    may_be_stale,
    place_of_this_process,
    remove_if_stale,
)
from holdfast.repository.objects import Folder, key_of, name_of, seal_object
from holdfast.repository.snapshot import time_text
from holdfast.store.base import Store

log = logging.getLogger(__name__)

REFRESH_SECONDS = 5 * 60
_SETTLE_SECONDS = 0.2
"""How long a fresh lock waits before it looks for others again (restic's value)."""


class Lock:
    """One held lock; made by `hold_lock`."""

    def __init__(
        self, store: Store, key: MasterKey, *, exclusive: bool, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.exclusive = exclusive
        self._store, self._key, self._sleep = store, key, sleep
        self._name = ""
        self._written: list[str] = []
        self._refreshed = 0.0
        self._lost = False
        self._settled = False
        self._settling = threading.Lock()
        self._stop = threading.Event()
        self._mutex = threading.Lock()

    def announce(self) -> bool:
        """Write the lock unless another excludes it; whether it may be used before it is settled.

        It may not where another, who excludes it, can have settled without having seen it: that one may be done, and
        its lock gone, before this one settles. Raises: RepositoryLocked.
        """
        begun = _clock()
        found = list_locks(self._store, self._key)
        # What may be stale is looked at again when our own lock tells the store's time.
        doubtful = [held for held in found if may_be_stale(held)]
        _refuse_conflicts(self._store, [held for held in found if held not in doubtful], exclusive=self.exclusive)
        self.write()
        self._announced = time.monotonic()
        # Who came after our look and settled before our lock was there had at least this long for it.
        return _clock() - begun < _SETTLE_SECONDS and not any(map(self._excludes, doubtful))

    def _excludes(self, held: Held) -> bool:
        return self.exclusive or held.lock.exclusive

    def settle(self) -> None:
        """Look for others that came at the same time, a moment after this lock was written; asked again, do nothing.

        Raises: RepositoryLocked; then the lock was given back.
        """
        with self._settling:
            if self._settled:
                return
            self.ensure_held()
            self._sleep(max(0.0, self._announced + _SETTLE_SECONDS - time.monotonic()))
            try:
                self._refuse_others()
            except BaseException:
                self._lost = True
                self.stop()
                _release(self)
                raise
            self._settled = True

    def _refuse_others(self) -> None:
        found = list_locks(self._store, self._key)
        clock = next((held.modified for held in found if held.name == self._name), None)
        others = [
            held for held in found if held.name != self._name and not remove_if_stale(self._store, held, clock=clock)
        ]
        _refuse_conflicts(self._store, others, exclusive=self.exclusive)

    def ensure_held(self) -> None:
        """Raises: RepositoryLocked when the lock was not refreshed in time and others may have removed it."""
        if self._lost or _clock() - self._refreshed > STALE_SECONDS - REFRESH_SECONDS:
            raise RepositoryLocked(
                "the lock on the repository was lost: it could not be refreshed in time",
                which=self._store.location,
                wanted=f"a refresh every {REFRESH_SECONDS // 60} minutes",
                found="none that the store took",
                hint="run it again: what was uploaded is re-used",
            )

    def ensure_there(self) -> None:
        """`ensure_held`, and the store is asked, too: before what cannot be taken back. Raises: RepositoryLocked."""
        self.settle()
        self.ensure_held()
        with self._mutex:
            self._require_still_there()

    def write(self) -> None:
        """Store the lock with the present time, then remove what it was before."""
        document = LockJson(
            time=time_text(datetime.now(UTC)),
            exclusive=self.exclusive,
            hostname=socket.gethostname(),
            username=getpass.getuser(),
            pid=os.getpid(),
            uid=os.getuid(),
            gid=os.getgid(),
            place=place_of_this_process(),
        )
        stored = seal_object(self._key, msgspec.json.encode(document))
        with self._mutex:
            if self._stop.is_set():
                return  # it was given back, or is about to be: a lock that is written now would stay
            if self._name:
                self._require_still_there()
            name = name_of(stored)
            # Noted before it is there: who is interrupted meanwhile, or never gets an answer, gives it back, too.
            self._written.append(name)
            self._store.put(key_of(Folder.LOCKS, name), stored)
            self._name, self._refreshed = name, _clock()
            self._remove_written(but=name)

    def _require_still_there(self) -> None:
        """A lock that others took away is lost for good: what seemed stored may be gone. Raises: RepositoryLocked."""
        try:
            self._store.head(key_of(Folder.LOCKS, self._name))
        except ObjectNotFound:
            self._lost = True
            self.ensure_held()

    def remove(self) -> None:
        """Give the lock back. A store that fails now leaves a lock that will go stale."""
        with self._mutex:
            self._remove_written()
            self._name = ""

    def _remove_written(self, but: str = "") -> None:
        for name in [name for name in self._written if name != but]:
            self._store.delete(key_of(Folder.LOCKS, name))
            self._written.remove(name)

    def keep_fresh(self) -> None:
        """Refresh until stopped; a failed refresh is tried again sooner."""
        wait = float(REFRESH_SECONDS)
        while not self._stop.wait(wait):
            try:
                self.write()
                wait = float(REFRESH_SECONDS)
            except HoldfastError as error:
                log.warning("cannot refresh the lock, trying again in 30 s: %s", error)
                wait = 30.0

    def stop(self) -> None:
        """End `keep_fresh`."""
        self._stop.set()

    @property
    def name(self) -> str:
        """The id of the lock object as it is now."""
        return self._name


def _clock() -> float:
    """Seconds that pass also while the machine sleeps: other hosts do not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@contextmanager
def hold_lock(
    store: Store,
    key: MasterKey,
    *,
    exclusive: bool,
    wait_seconds: float = 0.0,
    settled: bool = True,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Lock]:
    """Hold a lock for the time of the block.

    Args:
        store: where the repository is.
        key: its master key.
        exclusive: alone (deleting) or beside others (reading, adding).
        wait_seconds: how long to wait for a lock that excludes this one before giving up.
        settled: whether the lock counts when the block begins; otherwise the block calls `settle`, or `ensure_there`,
            before it stores anything and before it believes what it read.
        sleep: how to wait; tests pass their own.

    Raises: RepositoryLocked, and the store's errors.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        lock = Lock(store, key, exclusive=exclusive, sleep=sleep)
        try:
            early = lock.announce()
            if settled or not early:
                lock.settle()
            break
        except RepositoryLocked:
            if time.monotonic() >= deadline:
                raise
            sleep(min(5.0, max(0.1, deadline - time.monotonic())))
        except BaseException:
            _release(lock)  # interrupted, just after it was written
            raise
    try:
        threading.Thread(target=lock.keep_fresh, name="lock-refresh", daemon=True).start()
        yield lock
    finally:
        lock.stop()
        _release(lock)


def _release(lock: Lock) -> None:
    # An error here must not hide what the block raised, nor turn finished work into a failure: the lock goes stale.
    try:
        lock.remove()
    except HoldfastError as error:
        log.warning("cannot remove the lock %s, it will be stale in 30 minutes: %s", lock.name[:8], error)


def _refuse_conflicts(store: Store, others: list[Held], *, exclusive: bool) -> None:
    for name, held, _ in others:
        if exclusive or held.exclusive:
            raise RepositoryLocked(
                "the repository is locked" + (" exclusively" if held.exclusive else ""),
                which=store.location,
                wanted="no other lock" if exclusive else "no exclusive lock",
                found=f"lock {name[:8]} of {held.username}@{held.hostname}, process {held.pid}, since {held.time}",
                hint="wait until it is done; a lock left by a dead process is ignored after 30 minutes, "
                "or remove it now with `holdfast unlock`",
            )
