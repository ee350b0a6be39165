"""Lock objects: what they say, and whether anybody still holds them.

Rules upheld here:
- A lock is stale thirty minutes after it was written, or at once when its process is gone. Stale locks are removed with
  a word in the log; they never block anyone.
- How old a lock is, the store's clock says, as far as it has one: when the lock was written, seen from when ours was.
  A host whose clock is wrong neither loses its lock nor takes one from others, nor leaves one that blocks for weeks.
- Whether a process is gone is judged only where its number means the same: in the boot and the pid namespace that its
  lock names. Two machines, or containers, of one host name take nothing from each other. Of a lock that names none
  (restic's) the host name decides, as restic does it.

Source: restic doc/design.rst, "Locks".
"""

from __future__ import annotations

import logging
import os
import socket
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast.errors import CorruptObject, ObjectNotFound
from holdfast.repository.crypto import MasterKey
from holdfast.repository.gofields import parse_time
from holdfast.repository.objects import Folder, corrupt, key_of, load_object
from holdfast.store.base import Store

log = logging.getLogger(__name__)

STALE_SECONDS = 30 * 60


class LockJson(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A lock object's JSON."""

    time: str
    exclusive: bool = False
    hostname: str = ""
    username: str = ""
    pid: int = 0
    uid: int = 0
    gid: int = 0
    place: str = ""
    """Ours: where `pid` counts. restic reads over it."""


class Held(NamedTuple):
    """A lock that is there: its id, what it says, and when the store says it was written (Unix seconds)."""

    name: str
    lock: LockJson
    modified: float | None


def list_locks(store: Store, key: MasterKey) -> list[Held]:
    """Every lock. Raises: CorruptObject for one that cannot be read and is not older than thirty minutes."""
    locks = []
    for info in store.list(Folder.LOCKS):
        name = info.key.rpartition("/")[2]
        try:
            locks.append(Held(name, _load(store, key, name), info.modified))
        except ObjectNotFound:
            continue
        except CorruptObject as error:
            if info.modified is None or time.time() - info.modified < STALE_SECONDS:
                raise
            log.warning("removing a damaged old lock: %s", error)
            store.delete(info.key)
    return locks


def remove_if_stale(store: Store, found: Held, *, clock: float | None = None) -> bool:
    """Remove a lock that nobody holds any more; whether it was one.

    `clock` is the store's time now, if it is known: then it decides, and no host's clock.
    """
    name, held, modified = found
    by_store = None if clock is None or modified is None else clock - modified
    age = time.time() - _seconds(held) if by_store is None else by_store
    if age > STALE_SECONDS:
        reason = f"not refreshed for {age / 60:.0f} minutes"
    elif _is_dead(held):
        reason = f"process {held.pid} on this host is gone"
    else:
        return False
    log.warning("removing the stale lock %s of %s@%s: %s", name[:8], held.username, held.hostname, reason)
    store.delete(key_of(Folder.LOCKS, name))
    return True


def may_be_stale(found: Held) -> bool:
    """Whether anything about a lock is odd: an age that is none, by this clock, or a process that is gone."""
    now = time.time()
    times = [_seconds(found.lock), *([found.modified] if found.modified is not None else [])]
    return any(abs(now - each) > STALE_SECONDS for each in times) or _is_dead(found.lock)


def _is_dead(held: LockJson) -> bool:
    here = held.place == place_of_this_process() if held.place else held.hostname == socket.gethostname()
    return here and bool(held.pid) and not _alive(held.pid)


@cache
def place_of_this_process() -> str:
    """This boot of this kernel, and this process's pid namespace; empty where they cannot be read."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _seconds(held: LockJson) -> float:
    return parse_time(held.time) / 1e9


def _load(store: Store, key: MasterKey, name: str) -> LockJson:
    try:
        lock = msgspec.json.decode(load_object(store, key, Folder.LOCKS, name), type=LockJson)
        parse_time(lock.time)
    except msgspec.DecodeError as error:
        raise corrupt(key_of(Folder.LOCKS, name), "a lock", str(error)) from error
    return lock


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
