"""Two hosts with a stack of one name in one repository: neither is taken, counted or restored for the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.snapshot import RestorePoint, Snapshot, restore_points, tags_for
from holdfast.policy.lineage import host_of, lineages, own_lineage


def points(*hosts: str) -> list[RestorePoint]:
    """One restore point an hour, by these hosts in turn."""
    made = []
    for number, host in enumerate(hosts):
        time = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=number)
        tags = tags_for(
            stack="app", source="volume:a", point=PointId(f"{time:%Y%m%dT%H%M%SZ}-aaaaaa"), parts=1, size=1, files=1
        )
        made.append(Snapshot(id=SnapshotId(f"{number:064x}"), time=time, tree="", hostname=host, tags=tags))
    return restore_points(made)


def hosts(apart: list[list[RestorePoint]]) -> list[list[str]]:
    return [[host_of(point) for point in lineage] for lineage in apart]


def test_hosts_that_work_at_the_same_time_are_apart() -> None:
    assert hosts(lineages(points("a", "b", "a", "b"))) == [["a", "a"], ["b", "b"]]
    assert hosts(lineages(points("b", "a", "a", "b"))) == [["b", "b"], ["a", "a"]]


def test_a_host_that_took_anothers_place_goes_on_with_its_stack() -> None:
    assert hosts(lineages(points("old", "old", "new", "new"))) == [["old", "old", "new", "new"]]
    assert hosts(lineages(points("a", "b", "a", "c", "b", "c"))) == [["a", "a", "c", "c"], ["b", "b"]]
    assert lineages([]) == []


def test_whose_they_are() -> None:
    apart = lineages(points("a", "b", "a", "b"))
    assert own_lineage(apart, "b") == apart[1]
    assert own_lineage(apart, "c") is None
    assert own_lineage(lineages(points("a", "b")), "c") is not None
