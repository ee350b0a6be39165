"""Stacks of one name in one repository that are not one stack: two hosts with a project `app` each. Pure.

Rules upheld here:
- Hosts whose restore points come alternately are at work at the same time: theirs are two stacks, and the points of the
  one are never counted, kept or restored in place of the other's.
- A host that goes on where another ended has taken its place, or its name is another one now: that is one stack.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from holdfast.model.ids import PointId
from holdfast.model.snapshot import RestorePoint

_AT_WORK = timedelta(days=31)
"""A host of which nothing came for so long has gone, or has another name by now."""


def host_of(point: RestorePoint) -> str:
    """The host that made a restore point."""
    return point.snapshots[0].hostname


def lineages(points: Iterable[RestorePoint]) -> list[list[RestorePoint]]:
    """The points of one stack's name, apart by the stacks that they are of; oldest first within each."""
    by_host: dict[str, list[RestorePoint]] = {}
    for point in sorted(points, key=lambda each: (each.time, each.id)):
        by_host.setdefault(host_of(point), []).append(point)
    found: list[list[RestorePoint]] = []
    for of_host in sorted(by_host.values(), key=lambda each: each[0].time):
        before = [lineage for lineage in found if lineage[-1].time < of_host[0].time]
        if before:
            max(before, key=lambda lineage: lineage[-1].time).extend(of_host)
        else:
            found.append(list(of_host))
    return found


def newest_of_hosts(points: Iterable[RestorePoint], now: datetime) -> dict[PointId, str]:
    """The newest whole point of each host but the last, with a reason to keep it: the host may be at work still."""
    newest = {host_of(point): point for point in sorted(points, key=lambda each: each.time) if point.complete}
    last = max(newest.values(), key=lambda point: point.time, default=None)
    return {
        point.id: f"the newest of host {host}"
        for host, point in newest.items()
        if point is not last and now - point.time < _AT_WORK
    }


def own_lineage(found: Sequence[list[RestorePoint]], host: str) -> list[RestorePoint] | None:
    """The points of this host's stack; None where several hosts are at work and none of them is this one."""
    if len(found) == 1:
        return found[0]
    return next((lineage for lineage in found if host_of(lineage[-1]) == host), None)
