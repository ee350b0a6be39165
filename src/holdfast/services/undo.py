"""Taking a forgetting back: a snapshot that was forgotten a short while ago is there again, under its own id.

Rules upheld here:
- It comes back only when all that it needs is there: what is half gone stays forgotten, and that is said.
- A shared lock is held meanwhile: no prune deletes what is being looked at.
"""

from __future__ import annotations

import msgspec

from holdfast.errors import CorruptObject, SnapshotNotFound
from holdfast.model.ids import BlobId, SnapshotId
from holdfast.repository.forgotten import Forgotten, forgotten_snapshots, remember_snapshot
from holdfast.repository.pack import BlobKind
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository


class UndoReport(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots that are there again."""

    snapshots: tuple[SnapshotId, ...]


def undo_forget(repository: Repository, what: str) -> UndoReport:
    """Bring back the snapshots of a forgotten restore point, or one snapshot by the beginning of its id.

    Raises: SnapshotNotFound, CorruptObject when its data is no longer whole (nothing came back then), RepositoryLocked.
    """
    with repository.lock():
        repository.refresh()
        found = list(forgotten_snapshots(repository))
        chosen = [each for each in found if each.snapshot.point == what or each.snapshot.id.startswith(what.lower())]
        if not chosen:
            names = sorted({each.snapshot.point or each.snapshot.short_id for each in found})
            raise SnapshotNotFound(
                "no such restore point was forgotten lately",
                which=what,
                found=", ".join(names[-6:]) or "none",
                hint="what a prune has deleted does not come back; holdfast list shows what is there",
            )
        for each in chosen:
            _require_whole(repository, each)
        for each in chosen:
            remember_snapshot(repository, each)
    return UndoReport(snapshots=tuple(each.snapshot.id for each in chosen))


def _require_whole(repository: Repository, forgotten: Forgotten) -> None:
    for path, node in walk(repository.reader, forgotten.snapshot.tree):
        for text in node.blobs:
            if not repository.index.has(BlobKind.DATA, BlobId(bytes.fromhex(text))):
                raise CorruptObject(
                    "a forgotten snapshot is no longer whole, it stays forgotten",
                    which=forgotten.snapshot.id,
                    wanted=f"all of {path.decode(errors='replace')}",
                    found="data that a prune has deleted",
                )
