"""What a name on the command line means, looked up: `policy.meant` decides, here it must be one where one is wanted."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.errors import SnapshotNotFound
from holdfast.model.snapshot import Snapshot
from holdfast.policy.meant import snapshots_meant
from holdfast.repository.repository import Repository


def chosen_snapshots(snapshots: Sequence[Snapshot], what: str, source: str | None) -> list[Snapshot]:
    """The snapshots that WHAT means; of ids only one. Raises: SnapshotNotFound."""
    found = snapshots_meant(snapshots, what, source)
    if len(found) > 1 and what not in ("latest", found[0].stack, found[0].point):
        ids = ", ".join(snapshot.id[:16] for snapshot in found[:4])
        raise SnapshotNotFound("more than one snapshot begins so", which=what, found=ids, hint="holdfast list")
    return found


def one_snapshot(repository: Repository, what: str, source: str | None) -> Snapshot:
    """The one snapshot that is meant. Raises: SnapshotNotFound when there is none, or more than one."""
    chosen = chosen_snapshots(repository.snapshots().snapshots, what, source)
    if len(chosen) != 1:
        raise SnapshotNotFound(
            "more than one snapshot is meant",
            which=what if source is None else f"{what} of {source}",
            found=", ".join(f"{snapshot.source} {snapshot.short_id}" for snapshot in chosen[:6]),
            hint=f"add --source {chosen[0].source}, or one of the others",
        )
    return chosen[0]
