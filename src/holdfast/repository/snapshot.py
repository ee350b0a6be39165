"""Snapshot objects: the commit of a backup. Before one is stored no backup exists, after it the backup is whole.

Rules upheld here:
- Written in restic's fields only; what Holdfast needs beyond them is in tags and in the tree's manifest.
- A damaged snapshot object hides no other: listing gives the readable ones and names the rest.

Source: restic doc/design.rst, "Snapshots".
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from holdfast.errors import CorruptObject, ObjectNotFound
from holdfast.model.ids import SnapshotId
from holdfast.model.snapshot import Snapshot
from holdfast.repository.crypto import MasterKey
from holdfast.repository.gofields import format_time, parse_time
from holdfast.repository.objects import Folder, corrupt, key_of, load_object, save_object
from holdfast.store.base import Store

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SnapshotJson(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A snapshot object's JSON."""

    time: str
    parent: str = ""
    tree: str
    paths: list[str] | None
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: list[str] | None = None
    tags: list[str] | None = None
    original: str = ""
    program_version: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotList:
    """What is on the store: the readable snapshots, oldest first, and one error for each that is not."""

    snapshots: tuple[Snapshot, ...]
    damaged: tuple[CorruptObject, ...]


def save_snapshot(store: Store, key: MasterKey, snapshot: SnapshotJson) -> Snapshot:
    """Commit a snapshot; the value that a listing will give for it."""
    name = save_object(store, key, Folder.SNAPSHOTS, msgspec.json.encode(snapshot))
    return _to_model(SnapshotId(name), snapshot)


def list_snapshots(store: Store, key: MasterKey, *, threads: int = 8) -> SnapshotList:
    """Every snapshot. One that disappears while the list is read was forgotten meanwhile and is left out."""
    names = [info.key.rpartition("/")[2] for info in store.list(Folder.SNAPSHOTS)]
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(lambda name: _load(store, key, name), names))
    snapshots = sorted((r for r in results if isinstance(r, Snapshot)), key=lambda s: (s.time, s.id))
    return SnapshotList(tuple(snapshots), tuple(r for r in results if isinstance(r, CorruptObject)))


def delete_snapshot(store: Store, snapshot_id: SnapshotId) -> None:
    """Forget one snapshot; its data stays until the next prune."""
    store.delete(key_of(Folder.SNAPSHOTS, snapshot_id))


def _load(store: Store, key: MasterKey, name: str) -> Snapshot | CorruptObject | None:
    try:
        return read_snapshot(SnapshotId(name), load_object(store, key, Folder.SNAPSHOTS, name))
    except ObjectNotFound:
        return None
    except CorruptObject as error:
        return error


def read_snapshot(snapshot_id: SnapshotId, plain: bytes) -> Snapshot | CorruptObject:
    """A snapshot from its object's plaintext, or the error that says why it is none."""
    try:
        return _to_model(snapshot_id, msgspec.json.decode(plain, type=SnapshotJson))
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        return corrupt(key_of(Folder.SNAPSHOTS, snapshot_id), "a snapshot", str(error))


def _to_model(snapshot_id: SnapshotId, decoded: SnapshotJson) -> Snapshot:
    if len(decoded.tree) != 64 or decoded.tree.strip("0123456789abcdef"):
        raise ValueError("its tree is not an id")
    return Snapshot(
        id=snapshot_id,
        time=EPOCH + timedelta(microseconds=parse_time(decoded.time) // 1000),
        tree=decoded.tree,
        paths=tuple(decoded.paths or ()),
        hostname=decoded.hostname,
        username=decoded.username,
        tags=tuple(decoded.tags or ()),
        parent=decoded.parent or None,
        program_version=decoded.program_version,
    )


def time_text(moment: datetime) -> str:
    """A moment as snapshots and locks write it."""
    return format_time((moment - EPOCH) // timedelta(microseconds=1) * 1000)
