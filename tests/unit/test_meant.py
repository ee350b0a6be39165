"""What a word on the command line means: never the snapshot of another stack."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from holdfast.errors import SnapshotNotFound
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.snapshot import Snapshot, tags_for
from holdfast.policy.meant import snapshots_meant


def snapshot(number: int, stack: str, source: str, *, parts: int = 1, host: str = "h") -> Snapshot:
    point = PointId(f"20261126T0000{number // 10:02d}Z-aaaaaa")
    tags = tags_for(stack=stack, source=source, point=point, parts=parts, size=1, files=1)
    time = datetime(2026, 11, 26, 0, 0, number, tzinfo=UTC)
    return Snapshot(id=SnapshotId(f"{number:02d}" + "ab" * 31), time=time, tree="", paths=(), hostname=host, tags=tags)


SHOP = [snapshot(10, "shop", "postgres:db", parts=2), snapshot(11, "shop", "volume:data", parts=2)]
BROKEN = [snapshot(20, "shop", "postgres:db", parts=2)]
WIKI = [snapshot(30, "wiki", "postgres:db")]
ALL = [*SHOP, *BROKEN, *WIKI]


def test_a_stack_is_its_newest_whole_point() -> None:
    assert snapshots_meant(ALL, "shop", None) == SHOP
    assert snapshots_meant(ALL, "shop", "postgres:db") == BROKEN
    assert snapshots_meant(ALL, "latest", None) == WIKI


def test_a_source_that_two_stacks_have_is_not_guessed() -> None:
    with pytest.raises(SnapshotNotFound, match="more than one stack") as caught:
        snapshots_meant(ALL, "latest", "postgres:db")
    assert "shop, wiki" in str(caught.value)
    assert snapshots_meant(ALL, "latest", "volume:data") == SHOP[1:]


def test_a_source_that_two_hosts_have_is_not_guessed() -> None:
    hosts = ((35, "one"), (45, "two"), (55, "one"))
    apart = [snapshot(number, "shop", "postgres:db", host=host) for number, host in hosts]
    for what in ("latest", "shop"):
        with pytest.raises(SnapshotNotFound, match="several hosts"):
            snapshots_meant(apart, what, "postgres:db")
    assert snapshots_meant(apart[:2], "latest", "postgres:db") == apart[1:2], "one host took the other's place"


def test_points_and_ids() -> None:
    assert snapshots_meant(ALL, str(SHOP[0].point), None) == SHOP
    assert snapshots_meant(ALL, "30AB", None) == WIKI
    with pytest.raises(SnapshotNotFound, match="no such"):
        snapshots_meant(ALL, "nothing", None)
