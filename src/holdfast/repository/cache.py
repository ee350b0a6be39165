"""A copy of a remote repository's index files on this machine, so that a run need not fetch them all again.

Rules upheld here:
- What is kept is the stored bytes as they are, encrypted; the folder is safe to delete at any time, also in a run.
- A kept file is believed only if its SHA-256 is its name. Anything else is fetched anew and replaced.
- A cache that cannot be written (full disk, read-only home) costs time, never a run: it is told once in the log.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from holdfast.repository.objects import Folder, name_of
from holdfast.store.base import Bytes, ObjectInfo, Store

log = logging.getLogger(__name__)

_INDEX = f"{Folder.INDEX}/"


def cache_folder(repository_id: str, env: Mapping[str, str] = os.environ) -> Path:
    """Where a repository's copies are kept: below HOLDFAST_CACHE_DIR, else XDG_CACHE_HOME, else ~/.cache."""
    base = env.get("HOLDFAST_CACHE_DIR") or os.path.join(
        env.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "holdfast"
    )
    return Path(base, repository_id)


def origin_of(store: Store) -> Store:
    """The store itself: what is to be checked must not be answered from a copy on this machine."""
    return store.origin if isinstance(store, CachedStore) else store


class CachedStore:
    """A store whose index files are kept in `folder` once they were read or written."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder / Folder.INDEX
        self._usable = True
        self._lock = threading.Lock()

    @property
    def origin(self) -> Store:
        """The store without the cache."""
        return self._store

    @property
    def location(self) -> str:
        """See `Store.location`."""
        return self._store.location

    def create(self) -> None:
        """See `Store.create`."""
        self._store.create()

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        """See `Store.put`."""
        self._store.put(key, data, if_absent=if_absent)
        if key.startswith(_INDEX):
            self._keep(key, bytes(data))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Store.get`."""
        if not key.startswith(_INDEX) or offset or length is not None:
            return self._store.get(key, offset=offset, length=length)
        kept = self._kept(key)
        if kept is not None:
            return kept
        data = self._store.get(key)
        self._keep(key, data)
        return data

    def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return self._store.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`. A whole listing of the index shows which copies are of no use any more."""
        if prefix.rstrip("/") != Folder.INDEX:
            return self._store.list(prefix)
        found = list(self._store.list(prefix))
        self._sweep({info.key.removeprefix(_INDEX) for info in found})
        return iter(found)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._store.delete(key)

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()

    def _kept(self, key: str) -> bytes | None:
        name = key.removeprefix(_INDEX)
        try:
            data = self._folder.joinpath(name).read_bytes()
        except OSError:
            return None
        return data if name_of(data) == name else None

    def _keep(self, key: str, data: bytes) -> None:
        name = key.removeprefix(_INDEX)
        if not self._usable or name_of(data) != name:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                try:
                    file.write(data)
                    file.flush()
                    os.replace(file.name, self._folder / name)
                except OSError:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            with self._lock:
                first, self._usable = self._usable, False
            if first:  # index files are fetched by several threads
                log.warning("the cache %s is not used: %s", self._folder, error.strerror or error)

    def _sweep(self, needed: set[str]) -> None:
        with suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in needed:
                    path.unlink()
