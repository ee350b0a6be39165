"""Snapshots that were forgotten, kept aside for the grace period of a prune: forgetting can be taken back.

Rules upheld here:
- The copy is stored before the snapshot goes, sealed like everything else, where restic does not look.
- A snapshot comes back as the very bytes it was, so under its own id.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from holdfast.errors import CorruptObject
from holdfast.model.ids import SnapshotId
from holdfast.model.snapshot import Snapshot
from holdfast.repository.objects import Folder, corrupt, key_of, name_of, open_object
from holdfast.repository.repository import Repository
from holdfast.repository.snapshot import delete_snapshot, read_snapshot


class _ForgottenJson(msgspec.Struct):
    forgotten: float
    stored: bytes


class Forgotten(msgspec.Struct, frozen=True):
    """A forgotten snapshot: the name of its copy, when it was forgotten (Unix seconds), the snapshot, its bytes."""

    name: str
    forgotten: float
    snapshot: Snapshot
    stored: bytes


def forget_snapshot(repository: Repository, snapshot: SnapshotId, now: float) -> None:
    """Forget a snapshot; a copy stays until a prune after the grace period. The caller holds the exclusive lock."""
    stored = repository.store.get(key_of(Folder.SNAPSHOTS, snapshot))
    repository.save_document(Folder.FORGOTTEN, msgspec.json.encode(_ForgottenJson(now, stored)))
    delete_snapshot(repository.store, snapshot)


def forgotten_snapshots(repository: Repository) -> Iterator[Forgotten]:
    """Those that can come back, and are not there again. What cannot be read cannot come back, and is left out."""
    for name, document in repository.documents(Folder.FORGOTTEN):
        if isinstance(document, bytes):
            try:
                yield _decode(repository, name, document)
            except (CorruptObject, msgspec.DecodeError, ValueError):
                continue


def _decode(repository: Repository, name: str, document: bytes) -> Forgotten:
    decoded = msgspec.json.decode(document, type=_ForgottenJson)
    snapshot = SnapshotId(name_of(decoded.stored))
    key = key_of(Folder.SNAPSHOTS, snapshot)
    found = read_snapshot(snapshot, open_object(repository.key, decoded.stored, key))
    if isinstance(found, CorruptObject):
        raise corrupt(key, "a snapshot", str(found))
    return Forgotten(name, decoded.forgotten, found, decoded.stored)


def remember_snapshot(repository: Repository, forgotten: Forgotten) -> None:
    """Put a snapshot back. The caller holds a lock, and knows that its data is whole."""
    repository.store.put(key_of(Folder.SNAPSHOTS, forgotten.snapshot.id), forgotten.stored)
    drop_forgotten(repository, forgotten)


def drop_forgotten(repository: Repository, forgotten: Forgotten) -> None:
    """Remove a copy: this snapshot comes back no more."""
    repository.store.delete(key_of(Folder.FORGOTTEN, forgotten.name))
