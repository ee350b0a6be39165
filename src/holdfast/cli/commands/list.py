"""`holdfast list`: what could be restored."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.errors import CorruptObject
from holdfast.model.snapshot import RestorePoint, Snapshot, restore_points


@click.command()
@repository_options
@click.option("--stack", help="Only this stack.")
@click.option("--snapshots", "by_snapshot", is_flag=True, help="One line per snapshot instead of per restore point.")
def command(access: Access, stack: str | None, by_snapshot: bool) -> None:
    """List restore points, oldest first. Needs nothing but the repository and its password."""
    with access.open() as repository:
        listed = repository.snapshots()
    points = [point for point in restore_points(listed.snapshots) if stack is None or point.stack == stack]
    snapshots = [snapshot for point in points for snapshot in point.snapshots]
    if access.json:
        text.show_json({"points": points, "damaged": [error.as_dict() for error in listed.damaged]})
    elif by_snapshot:
        text.show(_by_snapshot(snapshots))
    else:
        text.show(_by_point(points))
    for error in listed.damaged:
        text.tell(f"holdfast: damaged: {error}")
    if listed.damaged:
        raise CorruptObject(
            f"{len(listed.damaged)} of {len(listed.damaged) + len(listed.snapshots)} snapshots are damaged",
            which=repository.location,
            hint="holdfast verify --read-data; every other snapshot can be restored",
        )


def _by_point(points: list[RestorePoint]) -> str:
    if not points:
        return "no restore points yet: holdfast backup"
    rows = [
        (
            point.id if point.stack else point.id[:8],
            text.moment(point.time),
            point.stack or "(restic)",
            "whole" if point.complete else f"{len(point.snapshots)} of {point.snapshots[0].parts}",
            ", ".join(f"{snapshot.source} {snapshot.short_id}" for snapshot in point.snapshots),
        )
        for point in points
    ]
    return text.table(("RESTORE POINT", "TIME", "STACK", "STATE", "SNAPSHOTS"), rows)


def _by_snapshot(snapshots: list[Snapshot]) -> str:
    if not snapshots:
        return "no snapshots yet: holdfast backup"
    rows = [
        (snapshot.short_id, text.moment(snapshot.time), snapshot.hostname, snapshot.stack or "-", snapshot.source)
        for snapshot in snapshots
    ]
    return text.table(("SNAPSHOT", "TIME", "HOST", "STACK", "SOURCE"), rows)
