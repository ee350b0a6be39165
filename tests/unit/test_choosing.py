"""What a name on the command line means, without a repository."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.errors import SnapshotNotFound
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.snapshot import CANARY, Snapshot, tags_for
from holdfast.services.choosing import chosen_snapshots

START = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot(number: int, stack: str, source: str, *, parts: int = 1) -> Snapshot:
    tags = tags_for(stack=stack, source=source, point=PointId(f"point-{number}"), parts=parts, size=0, files=0)
    return Snapshot(
        id=SnapshotId(f"{number:02x}{source.encode().hex():0<62}"[:64]),
        time=START + timedelta(hours=number),
        tree="0" * 64,
        tags=tags,
    )


OLD, FILES, DATA, PART = (
    snapshot(1, "shop", "volume:files"),
    snapshot(2, "shop", "volume:files", parts=2),
    snapshot(2, "shop", "postgres:db", parts=2),
    snapshot(3, "shop", "volume:files", parts=2),
)
OWN = snapshot(4, CANARY, "canary:data")


def test_latest_is_the_newest_whole_one_and_of_a_source_the_newest() -> None:
    assert set(chosen_snapshots([OLD, FILES, DATA, PART], "latest", None)) == {FILES, DATA}
    assert chosen_snapshots([OLD, FILES, DATA, PART], "latest", "volume:files") == [PART]
    assert chosen_snapshots([PART], "latest", None) == [PART]


def test_latest_is_the_canarys_only_where_there_is_nothing_else() -> None:
    assert set(chosen_snapshots([OLD, FILES, DATA, OWN], "latest", None)) == {FILES, DATA}
    assert chosen_snapshots([OLD, OWN], "latest", "canary:data") == [OWN]
    assert chosen_snapshots([OWN], "latest", None) == [OWN]


def test_by_a_points_id_or_the_beginning_of_a_snapshots() -> None:
    assert set(chosen_snapshots([OLD, FILES, DATA], "point-2", None)) == {FILES, DATA}
    assert chosen_snapshots([OLD, FILES, DATA], OLD.id[:8].upper(), None) == [OLD]


@pytest.mark.parametrize(("what", "source", "why"), [("0", None, "more than one"), ("ff", None, "3 others")])
def test_what_is_not_there_or_not_one_is_refused(what: str, source: str | None, why: str) -> None:
    with pytest.raises(SnapshotNotFound, match=why):
        chosen_snapshots([OLD, FILES, DATA], what, source)


def test_an_empty_repository_says_so() -> None:
    with pytest.raises(SnapshotNotFound, match="no snapshot at all") as caught:
        chosen_snapshots([], "latest", None)
    assert caught.value.hint == "holdfast backup"
