"""`holdfast list`: what could be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.errors import CorruptObject
from holdfast.model.snapshot import RestorePoint, Snapshot, restore_points

if TYPE_CHECKING:
    from holdfast.model.ids import PointId
    from holdfast.repository.repository import Repository


@click.command()
@repository_options
@click.option("--stack", metavar="NAME", help="Only this stack.")
@click.option("--snapshots", "by_snapshot", is_flag=True, help="One line per snapshot instead of per restore point.")
def command(access: Access, stack: str | None, by_snapshot: bool) -> None:
    """List restore points, oldest first. Needs nothing but the repository and its password."""
    with access.open() as repository:
        listed = repository.snapshots()
        known = restore_points(listed.snapshots)
        points = [point for point in known if stack is None or point.stack == stack]
        recoverable = _recoverable(repository, points)
    snapshots = [snapshot for point in points for snapshot in point.snapshots]
    if access.json:
        text.show_json(
            {"points": points, "recoverable": recoverable, "damaged": [error.as_dict() for error in listed.damaged]}
        )
    elif not points:
        text.show(_nothing(known, stack))
    elif by_snapshot:
        text.show(_by_snapshot(snapshots))
    else:
        text.show(_by_point(points, recoverable))
    for error in listed.damaged:
        text.tell(f"holdfast: damaged: {error}")
    if listed.damaged:
        raise CorruptObject(
            f"{len(listed.damaged)} of {len(listed.damaged) + len(listed.snapshots)} snapshots are damaged",
            which=repository.location,
            hint="holdfast verify --read-data; every other snapshot can be restored",
        )


def _recoverable(repository: Repository, points: list[RestorePoint]) -> dict[PointId, bool]:
    """Only where a database is among them: it takes reading their manifests."""
    if not any(snapshot.source.startswith("postgres:") for point in points for snapshot in point.snapshots):
        return {}
    from holdfast.services.recoverable import recoverable_points

    return recoverable_points(repository, points)


def _nothing(known: list[RestorePoint], stack: str | None) -> str:
    others = ", ".join(sorted({point.stack or "(restic)" for point in known}))
    return (
        f"no restore points of {stack}; there are those of {others}"
        if others
        else "no restore points yet: holdfast backup"
    )


def _state(point: RestorePoint, recoverable: dict[PointId, bool]) -> str:
    if not point.complete:
        return f"{len(point.snapshots)} of {point.snapshots[0].parts}"
    found = recoverable.get(point.id)
    return "whole" if found is None else "recoverable" if found else "waits for WAL"


def _by_point(points: list[RestorePoint], recoverable: dict[PointId, bool]) -> str:
    rows = [
        (
            point.id if point.stack else point.id[:8],
            text.moment(point.time),
            point.stack or "(restic)",
            _state(point, recoverable),
            ", ".join(f"{snapshot.source} {snapshot.short_id}" for snapshot in point.snapshots),
        )
        for point in points
    ]
    return text.table(("RESTORE POINT", "TIME", "STACK", "STATE", "SNAPSHOTS"), rows)


def _by_snapshot(snapshots: list[Snapshot]) -> str:
    rows = [
        (snapshot.short_id, text.moment(snapshot.time), snapshot.hostname, snapshot.stack or "-", snapshot.source)
        for snapshot in snapshots
    ]
    return text.table(("SNAPSHOT", "TIME", "HOST", "STACK", "SOURCE"), rows)
