"""Repositories for tests: cheap keys, and shorthands for the one thing that most tests do."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.model.snapshot import Snapshot
from holdfast.repository.repository import Repository, init, open_repository
from holdfast.services.backup import BackupReport, take_backup
from holdfast.services.choosing import chosen_snapshots
from holdfast.sources.tree import TreeSource
from holdfast.store.base import Store
from holdfast.store.directory import DirectoryStore

PASSWORD = "correct horse"
CHEAP = 1 << 4
"""scrypt's N for tests: a key in microseconds."""


def new_repository(path: str | os.PathLike[str]) -> Repository:
    """A fresh directory repository with a key that costs nothing to open."""
    return new_repository_on(DirectoryStore(path))


def new_repository_on(store: Store) -> Repository:
    """A fresh repository on any store."""
    return init(store, PASSWORD, scrypt_n=CHEAP)


def reopen(path: str | os.PathLike[str]) -> Repository:
    """An existing directory repository, opened anew."""
    return open_repository(DirectoryStore(os.fspath(path)), PASSWORD)


def backup_directory(
    repository: Repository, path: Path, *, stack: str = "test", allow_empty: bool = False
) -> BackupReport:
    """Back one directory up."""
    return take_backup(repository, stack, [TreeSource(path, label=f"path:{path}")], allow_empty=allow_empty)


def latest(repository: Repository) -> Snapshot:
    """The newest snapshot. Raises: SnapshotNotFound when none can be read."""
    return chosen_snapshots(repository.snapshots().snapshots, "latest", None)[-1]
