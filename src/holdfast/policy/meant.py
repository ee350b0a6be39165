"""Which snapshots a word on the command line means: `latest`, a stack, a restore point, the beginning of an id. Pure.

Rules upheld here:
- The canary's restore points are nobody's data: `latest` is one of them only where there is nothing else.
- Two stacks that have a source of one name (`postgres:db`) are never taken for each other: `latest` is refused then.
- A word that means nothing is an error that says what there is; a restore point goes before a stack, that before an id.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.errors import SnapshotNotFound
from holdfast.model.snapshot import CANARY, RestorePoint, Snapshot, restore_points
from holdfast.policy.lineage import host_of, lineages


def snapshots_meant(snapshots: Iterable[Snapshot], what: str, source: str | None) -> list[Snapshot]:
    """The snapshots that a word means, perhaps of one source only. Raises: SnapshotNotFound."""
    every = list(snapshots)
    wanted = [snapshot for snapshot in every if source is None or snapshot.source == source]
    points = restore_points(wanted)
    if what == "latest":
        points = [point for point in points if point.stack != CANARY] or points
        stacks = sorted({point.stack for point in points if point.stack})
        if source is not None and len(stacks) > 1:
            raise SnapshotNotFound(
                "more than one stack has a source of this name",
                which=source,
                found=", ".join(stacks),
                hint=f"name the stack in place of latest: {stacks[0]}",
            )
        found = _newest(points if source is None else _of_one_host("".join(stacks), points), source)
    else:
        found = next((list(p.snapshots) for p in reversed(points) if p.id == what), [])
        found = found or _newest(_of_one_host(what, [point for point in points if point.stack == what]), source)
        found = found or [s for s in wanted if s.id.startswith(what.lower())]
    if not found:
        raise SnapshotNotFound(
            "no such snapshot, restore point or stack",
            which=what if source is None else f"{what} of {source}",
            found=f"{len(every)} others" if every else "no snapshot at all",
            hint="holdfast list" if every else "holdfast backup",
        )
    return found


def _of_one_host(stack: str, points: list[RestorePoint]) -> list[RestorePoint]:
    apart = lineages(points)
    if len(apart) > 1:
        raise SnapshotNotFound(
            "several hosts have a stack of this name",
            which=stack,
            found="; ".join(f"{host_of(lineage[-1])}: {lineage[-1].id}" for lineage in apart),
            hint="name the restore point",
        )
    return points


def _newest(points: list[RestorePoint], source: str | None) -> list[Snapshot]:
    """The newest whole restore point's; of one source the newest at all."""
    whole = [point for point in points if point.complete or source is not None]
    return list((whole or points)[-1].snapshots) if points else []
