"""What doctor looks at in the store and the repository: that it keeps its word, its clock, locks, space.

Rules upheld here:
- What it writes are two small objects of its own, which it removes again, also when a check failed.
- A server's own ways are told as they are; whether they matter is said in the remedy.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from holdfast.config.access import RepositoryAccess, StoreLimits
from holdfast.errors import HoldfastError, ObjectExists, ObjectNotFound
from holdfast.model.words import many, seconds, size
from holdfast.repository.gofields import parse_time
from holdfast.repository.lock_objects import STALE_SECONDS, list_locks
from holdfast.repository.repository import Repository, open_repository
from holdfast.services.access import store_at
from holdfast.services.dialect import listing_and_dialect
from holdfast.services.finding import Finding, attempt, failed
from holdfast.store.base import Store
from holdfast.store.url import LocalUrl, parse_url

_SKEW = 60.0
_LITTLE_SPACE = 0.05
_WRITERS = 6
_PATIENCE = 15.0


def examine_repository(access: RepositoryAccess, now: Callable[[], float]) -> list[Finding]:
    """The findings about a repository and the store that it lies in."""
    findings: list[Finding] = []
    # Without limits: what is asked for is the server itself.
    plain = replace(access, limits=StoreLimits())
    store = attempt(findings, "credentials", lambda: store_at(plain), lambda _: "found")
    if store is not None:
        try:
            findings.extend(examine_store(store, now))
            if not any(finding.verdict == "fail" for finding in findings):
                findings.extend(_repository(store, access, now))
        finally:
            store.close()
    findings.extend(_space(access.url))
    return findings


def examine_store(store: Store, now: Callable[[], float]) -> Iterator[Finding]:
    """Write, read, list and delete an object."""
    key, data = f"holdfast/probe-{secrets.token_hex(8)}", secrets.token_bytes(4096)
    try:
        store.put(key, data, if_absent=True)
        late = _listed_after(store, key)
        problem = "does not list what was written" if late is None else _probe(store, key, data)
        modified = store.head(key).modified
        winners = race(store, f"{key}-race")
    except HoldfastError as error:
        yield failed("store", error)
        return
    finally:
        for name in (key, f"{key}-race"):
            with suppress(HoldfastError):  # told already, or only litter of a few bytes
                store.delete(name)
    if problem:
        yield Finding(check="store", verdict="fail", found=f"{store.location}: {problem}", hint="use another server")
        return
    yield Finding(check="store", verdict="ok", found=f"{store.location}: writes, reads, lists, deletes")
    yield Finding(
        check="writers at once",
        verdict="ok" if winners == 1 else "warn",
        found=f"of {_WRITERS} that wrote one object, {winners} {'was' if winners == 1 else 'were'} told it is theirs",
        hint=None
        if winners == 1
        else "the server ignores If-None-Match: let only one host ship WAL under one name, or use another server",
    )
    yield from listing_and_dialect(store, late or 0.0)
    skew = abs(now() - modified) if modified is not None else 0.0
    yield Finding(
        check="clock",
        verdict="warn" if skew > _SKEW else "ok",
        found=f"differs from the store's by {seconds(skew)}",
        hint="set the clock: stale locks and ages are told by it" if skew > _SKEW else None,
    )


def _probe(store: Store, key: str, data: bytes) -> str | None:
    """What the store does not do as it should; None when it does."""
    if store.get(key) != data:
        return "gives back other bytes than were written"
    if store.get(key, offset=100, length=50) != data[100:150]:
        return "gives a wrong range"
    try:
        store.put(key, data + b"other", if_absent=True)
    except ObjectExists:
        pass  # as it must be
    else:
        return "replaces an object that must not be replaced"
    store.delete(key)
    try:
        store.head(key)
    except ObjectNotFound:
        store.put(key, data)
        return None
    return "still has what was just deleted"


def _listed_after(store: Store, key: str) -> float | None:
    """Seconds until a listing shows what was just written; None when it does not come."""
    started = time.monotonic()
    while key not in {info.key for info in store.list(key.rpartition("/")[0])}:
        if time.monotonic() - started > _PATIENCE:
            return None
        time.sleep(0.5)
    return time.monotonic() - started


def race(store: Store, key: str) -> int:
    """How many of several writers at the same instant a store tells that its object was absent."""
    barrier = threading.Barrier(_WRITERS)

    def write(number: int) -> bool:
        barrier.wait(timeout=60)
        try:
            store.put(key, b"writer %d" % number, if_absent=True)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(_WRITERS) as pool:
        return sum(pool.map(write, range(_WRITERS)))


def _repository(store: Store, access: RepositoryAccess, now: Callable[[], float]) -> Iterator[Finding]:
    try:
        repository = open_repository(store, access.password.reveal())
        listed = repository.snapshots()
    except HoldfastError as error:
        yield failed("repository", error)
        return
    damaged = len(listed.damaged)
    yield Finding(
        check="repository",
        verdict="fail" if damaged else "ok",
        found=f"{repository.id[:10]}, {many(len(listed.snapshots), 'snapshot')}"
        + (f", {damaged} damaged" if damaged else ""),
        hint="holdfast verify --read-data" if damaged else None,
    )
    yield from _locks(repository, now)


def _locks(repository: Repository, now: Callable[[], float]) -> Iterator[Finding]:
    try:
        locks = list_locks(repository.store, repository.key)
    except HoldfastError as error:
        yield failed("locks", error)
        return
    # The store's word for when it was written goes before that of a host whose clock may be wrong.
    written = [held.modified or parse_time(held.lock.time) / 1e9 for held in locks]
    stale = sum(now() - time > STALE_SECONDS for time in written)
    found = f"{len(locks)} held" + (f", {stale} stale" if stale else "")
    hint = "holdfast unlock" if stale else None
    yield Finding(check="locks", verdict="warn" if stale else "ok", found=found, hint=hint)


def _space(url: str) -> Iterator[Finding]:
    place = parse_url(url)
    if not isinstance(place, LocalUrl):
        return
    path = os.path.abspath(place.path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    usage = shutil.disk_usage(path)
    little = usage.free < _LITTLE_SPACE * usage.total
    yield Finding(
        check="space",
        verdict="warn" if little else "ok",
        found=f"{size(usage.free)} of {size(usage.total)} free",
        hint="holdfast forget --prune frees some, by the rules of the configuration" if little else None,
    )
