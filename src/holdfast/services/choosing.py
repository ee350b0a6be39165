"""What a name on the command line means: a restore point, a snapshot by the beginning of its id, or `latest`.

Rules upheld here:
- `latest` is the newest whole restore point, of one source where one is named; never the canary's, whose data is
  nobody's, unless there is nothing else.
- A name that means nothing, or more than was asked for, is refused with what there is.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.errors import SnapshotNotFound
from holdfast.model.snapshot import CANARY, RestorePoint, Snapshot, restore_points
from holdfast.repository.repository import Repository


def chosen_snapshots(snapshots: Sequence[Snapshot], what: str, source: str | None) -> list[Snapshot]:
    """The snapshots that WHAT means: one by its id, or those of a restore point. Raises: SnapshotNotFound."""
    wanted = [snapshot for snapshot in snapshots if source is None or snapshot.source == source]
    points = restore_points(wanted)
    if what == "latest":
        found = _latest(points, whole=source is None)
    else:
        named = [point for point in points if point.id == what]
        found = list(named[-1].snapshots) if named else [s for s in wanted if s.id.startswith(what.lower())]
        if not named and len(found) > 1:
            ids = ", ".join(snapshot.id[:16] for snapshot in found[:4])
            raise SnapshotNotFound("more than one snapshot begins so", which=what, found=ids, hint="holdfast list")
    if not found:
        raise SnapshotNotFound(
            "no such snapshot or restore point",
            which=_named(what, source),
            found=f"{len(snapshots)} others" if snapshots else "no snapshot at all",
            hint="holdfast list" if snapshots else "holdfast backup",
        )
    return found


def one_snapshot(repository: Repository, what: str, source: str | None) -> Snapshot:
    """The one snapshot that is meant. Raises: SnapshotNotFound when there is none, or more than one."""
    chosen = chosen_snapshots(repository.snapshots().snapshots, what, source)
    if len(chosen) != 1:
        raise SnapshotNotFound(
            "more than one snapshot is meant",
            which=_named(what, source),
            found=", ".join(f"{snapshot.source} {snapshot.short_id}" for snapshot in chosen[:6]),
            hint=f"add --source {chosen[0].source}, or one of the others",
        )
    return chosen[0]


def _latest(points: Sequence[RestorePoint], *, whole: bool) -> list[Snapshot]:
    meant = [point for point in points if point.stack != CANARY] or points
    preferred = [point for point in meant if point.complete or not whole] or meant
    return list(preferred[-1].snapshots) if preferred else []


def _named(what: str, source: str | None) -> str:
    return what if source is None else f"{what} of {source}"
