"""Taking locks away by hand: those that nobody holds any more, or all of them.

Rules upheld here:
- The store's clock says how old a lock is, as everywhere (`repository.lock`): a lock of our own, written for this
  moment, tells it. Where the store tells no times nothing is judged, and nothing removed.
- Whoever asks for all locks to go needs no clock, and nothing is written.
"""

from __future__ import annotations

from typing import NamedTuple

from holdfast.errors import RepositoryError
from holdfast.repository.crypto import MasterKey
from holdfast.repository.lock import Lock
from holdfast.repository.lock_objects import Held, list_locks, remove_if_stale
from holdfast.repository.objects import Folder, key_of
from holdfast.store.base import Store


class Unlocked(NamedTuple):
    """What became of the locks that were there."""

    removed: tuple[Held, ...]
    kept: tuple[Held, ...]


def unlock(store: Store, key: MasterKey, *, everything: bool = False) -> Unlocked:
    """Remove the stale locks, or with `everything` each lock.

    Raises: RepositoryError when the store's clock cannot be had (nothing was removed then), CorruptObject for a young
    lock that cannot be read, the store's errors.
    """
    if everything:
        found = tuple(list_locks(store, key))
        for held in found:
            store.delete(key_of(Folder.LOCKS, held.name))
        return Unlocked(found, ())
    if not list_locks(store, key):
        return Unlocked((), ())
    own = Lock(store, key, exclusive=False)
    own.write()
    try:
        return _judged(store, key, own.name)
    finally:
        own.remove()


def _judged(store: Store, key: MasterKey, own: str) -> Unlocked:
    found = list_locks(store, key)
    clock = next((held.modified for held in found if held.name == own), None)
    others = [held for held in found if held.name != own]
    if clock is None or any(held.modified is None for held in others):
        raise RepositoryError(
            "the store does not tell when a lock was written: which of them are stale cannot be known",
            which=store.location,
            wanted="the time of each lock by the store's clock",
            found="none" if clock is None else "none for some",
            hint="make sure that nobody works, then: holdfast unlock --all",
        )
    removed = [held for held in others if remove_if_stale(store, held, clock=clock)]
    return Unlocked(tuple(removed), tuple(held for held in others if held not in removed))
