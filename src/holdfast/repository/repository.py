"""A repository: opened by a password, the one way to everything in it.

Rules upheld here:
- `config` is the commit of `init`; nothing is initialised over an existing repository, or what is left of one.
- A writer or a deleter holds a lock *before* it loads the index: what it believes to be stored cannot be pruned away.
- Opening takes half a second of one core, for passwords must not be guessed. It can be begun (`begin_opening`): whoever
  needs the repository first waits for the end, and learns there what is wrong with it.
- Format version 2 only: version 1 has no compression, and `restic migrate upgrade_repo_v2` makes it 2 in seconds.

Source: restic doc/design.rst, "Repository Layout", "Repository Format".
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import NamedTuple

import msgspec

from holdfast.errors import (
    HoldfastError,
    ObjectExists,
    ObjectNotFound,
    RepositoryError,
    RepositoryExists,
    RepositoryNotFound,
)
from holdfast.repository import keys
from holdfast.repository.blobs import DEFAULT_LEVEL
from holdfast.repository.crypto import MasterKey
from holdfast.repository.index import Index, load_index
from holdfast.repository.lock import Lock, hold_lock
from holdfast.repository.objects import CONFIG, Folder, corrupt, load_object, open_object, save_object, seal_object
from holdfast.repository.polynomial import random_irreducible
from holdfast.repository.reader import BlobReader
from holdfast.repository.snapshot import SnapshotList, list_snapshots
from holdfast.repository.writer import BlobWriter
from holdfast.store.base import Store

VERSION = 2
CONNECTIONS = 4
"""Requests to the store at the same time, when nothing else is said."""


class _ConfigJson(msgspec.Struct, kw_only=True):
    version: int
    id: str
    chunker_polynomial: str


class Opened(NamedTuple):
    """What opening a repository gives: its store, its master key and the key file that held it, its id."""

    store: Store
    key: MasterKey
    key_id: str
    id: str


class Repository:
    """A repository that is open, or is being opened; it closes its store.

    `init`, `open_repository` and `begin_opening` make it. Of one that is being opened everything but `location`,
    `connections` and `opening` waits, and raises what opening it raises.
    """

    def __init__(self, location: str, opened: Opened | Future[Opened]) -> None:
        self.location = location
        """Where it is, without credentials."""
        self.connections = CONNECTIONS
        self._opened: Future[Opened] = opened if isinstance(opened, Future) else Future()
        if isinstance(opened, Opened):
            self._opened.set_result(opened)

    def __repr__(self) -> str:
        return f"Repository({self.location!r})"

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        # Nobody waits here: what is still being opened was not needed, or was broken off.
        if self._opened.done() and self._opened.exception() is None:
            self.store.close()

    @property
    def opening(self) -> bool:
        """Whether it is still being opened."""
        return not self._opened.done()

    @property
    def store(self) -> Store:
        """Where its objects are."""
        return self._opened.result().store

    @property
    def key(self) -> MasterKey:
        """Its master key."""
        return self._opened.result().key

    @property
    def key_id(self) -> str:
        """The key file that the password opened."""
        return self._opened.result().key_id

    @property
    def id(self) -> str:
        """Its id, 64 hexadecimal digits."""
        return self._opened.result().id

    def snapshots(self) -> SnapshotList:
        """What can be listed now, and what is damaged."""
        return list_snapshots(self.store, self.key)

    def lock(
        self, *, exclusive: bool = False, wait_seconds: float = 0.0, settled: bool = True
    ) -> AbstractContextManager[Lock]:
        """Hold a lock for a block, as `hold_lock` tells: shared to read or add, exclusive to delete.

        Raises: RepositoryLocked.
        """
        return hold_lock(self.store, self.key, exclusive=exclusive, wait_seconds=wait_seconds, settled=settled)

    @cached_property
    def index(self) -> Index:
        """The index as it was when it was first asked for: for reading."""
        return load_index(self.store, self.key, threads=self.connections)

    @cached_property
    def reader(self) -> BlobReader:
        """Reads blobs and trees through `index`."""
        return BlobReader(self.store, self.key, self.index)

    def refresh(self) -> None:
        """Forget the loaded index: to be called after a lock was taken, or when other writers may have added."""
        self.__dict__.pop("index", None)
        self.__dict__.pop("reader", None)

    def writer(
        self,
        *,
        level: int = DEFAULT_LEVEL,
        index: Index | None = None,
        before_upload: Callable[[], None] = lambda: None,
    ) -> BlobWriter:
        """A writer of blobs that knows what `index` knows, this one's or another. The caller holds a lock."""
        return BlobWriter(
            self.store,
            self.key,
            self.index if index is None else index,
            level=level,
            uploads=max(1, self.connections // 2),
            before_upload=before_upload,
        )

    def save_document(self, folder: Folder, plaintext: bytes) -> str:
        """Store a sealed document; its name."""
        return save_object(self.store, self.key, folder, plaintext)

    def documents(self, folder: Folder) -> Iterator[tuple[str, bytes | HoldfastError]]:
        """Each document of a folder by name: its plaintext, or the error that reading it gave."""
        for info in self.store.list(folder):
            name = info.key.rpartition("/")[2]
            try:
                yield name, load_object(self.store, self.key, folder, name)
            except HoldfastError as error:
                yield name, error


def init(
    store: Store, password: str, *, scrypt_n: int = keys.MIN_N, polynomial: Callable[[], int] = random_irreducible
) -> Repository:
    """Make a new repository; the bucket or directory is made when it is missing.

    Raises: RepositoryExists, WrongPassword for an empty password, and the store's errors.
    """
    store.create()
    _refuse_existing(store)
    master = MasterKey.generate()
    config = _ConfigJson(version=VERSION, id=secrets.token_hex(32), chunker_polynomial=f"{polynomial():x}")
    key_id = keys.add_key(store, master, password, n=scrypt_n)
    try:
        # restic reads the config before it knows the version: it is never compressed.
        store.put(CONFIG, seal_object(master, msgspec.json.encode(config), compress=False), if_absent=True)
    except ObjectExists as error:
        store.delete(f"{Folder.KEYS}/{key_id}")
        raise _exists(store) from error
    return Repository(store.location, Opened(store, master, key_id, config.id))


def open_repository(store: Store, password: str) -> Repository:
    """Open a repository with one of its passwords. Raises: as `opened_with`."""
    return Repository(store.location, opened_with(store, password))


def begin_opening(location: str, job: Callable[[], Opened]) -> Repository:
    """A repository that a thread of its own opens, by a job that calls `opened_with`."""
    opened: Future[Opened] = Future()

    def run() -> None:
        try:
            opened.set_result(job())
        except BaseException as error:  # noqa: BLE001  whoever needs the repository raises it
            opened.set_exception(error)

    threading.Thread(target=run, name="open", daemon=True).start()
    return Repository(location, opened)


def opened_with(store: Store, password: str) -> Opened:
    """What one of a repository's passwords opens.

    Raises: StoreMissing, RepositoryNotFound, WrongPassword, CorruptObject, and the store's other errors.
    """
    try:
        stored = store.get(CONFIG)
    except ObjectNotFound as error:
        with suppress(ObjectNotFound):
            store.head(CONFIG)  # some servers say the same of a missing bucket: this looks at the bucket, too
        raise RepositoryNotFound(
            "there is no repository here",
            which=store.location,
            wanted="an object named config",
            found="none",
            hint="check the URL; to make a new repository: holdfast init",
        ) from error
    master, key_id = keys.open_master(store, password)
    try:
        config = msgspec.json.decode(open_object(master, stored, CONFIG), type=_ConfigJson)
    except msgspec.DecodeError as error:
        raise corrupt(CONFIG, "a repository's configuration", str(error)) from error
    if config.version != VERSION:
        raise RepositoryError(
            "the repository has another format version",
            which=store.location,
            wanted=f"version {VERSION}",
            found=f"version {config.version}",
            hint="restic migrate upgrade_repo_v2",
        )
    return Opened(store, master, key_id, config.id)


def _refuse_existing(store: Store) -> None:
    try:
        store.head(CONFIG)
    except ObjectNotFound:
        left = next(iter(store.list(Folder.KEYS)), None) or next(iter(store.list(Folder.SNAPSHOTS)), None)
        if left is not None:
            raise RepositoryExists(
                "keys or snapshots of a repository are here, but not its config",
                which=store.location,
                found=left.key,
                hint="bring the object `config` back from a copy; if nothing here is needed, delete it all and retry",
            ) from None
        return
    raise _exists(store)


def _exists(store: Store) -> RepositoryExists:
    return RepositoryExists(
        "there is already a repository here",
        which=store.location,
        hint="to use it: holdfast backup; to look: holdfast list",
    )
