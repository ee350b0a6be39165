"""Sizes over time: how they grow, when they are full, and the pictures and pages that say so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import msgspec
import pytest

from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.monitor import Finding, Severity, Trend
from holdfast.model.snapshot import RestorePoint, Snapshot, restore_points, tags_for
from holdfast.model.words import count, growth
from holdfast.policy.freshness import Seen, SourceSeen
from holdfast.policy.trends import DRAWN, backed_up, thinned, trends
from holdfast.reports.picture import storage_picture, trend_words
from holdfast.reports.plot import size_step
from holdfast.reports.status import status_page
from holdfast.services.report import Filesystem, MonitorReport, StackView

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
GIB = 1 << 30
HOSTILE = '</text></svg><script>alert(1)</script>&"\x1b'


def line(start: float, end: float, days: float = 14, count: int = 200) -> list[tuple[datetime, float]]:
    """A size in GiB that goes evenly from one to the other."""
    steps = [number / (count - 1) for number in range(count)]
    return [(NOW - timedelta(days=days * (1 - step)), (start + (end - start) * step) * GIB) for step in steps]


def test_what_grows_is_told_with_its_end_and_only_the_fastest_are_drawn() -> None:
    measured = {
        "filesystem-used-bytes /srv": line(50, 50),
        "filesystem-used-bytes /var": line(60, 74),
        "volume-bytes new": line(1, 2, days=0.1),
        "repository-keys": line(1, 1),
        **{f"volume-bytes v{number}": line(5, 5 + number) for number in range(6)},
    }
    found = trends(measured, {"filesystem-used-bytes /srv": 100 * GIB, "filesystem-used-bytes /var": 81 * GIB})
    assert [trend.name for trend in found[:2]] == ["/var", "/srv"]  # what will be full first goes first
    assert found[0].per_day == pytest.approx(GIB)
    assert found[0].full_in == pytest.approx(7 * 86400)
    assert found[1].full_in is None
    assert trend_words(found[0]) == "74.0 GiB of 81.0 GiB used (91%), growth +1.0 GiB a day, full in 7 d 0 h"
    assert "repository-keys" not in {trend.name for trend in found}
    drawn = {trend.name for trend in found if trend.points and trend.kind == "volume"}
    assert drawn == {f"v{number}" for number in range(6 - DRAWN, 6)}
    assert next(trend for trend in found if trend.name == "new").per_day is None


def restore_point(days: float, files: int | None, stack: str = "shop") -> RestorePoint:
    tags = list(
        tags_for(
            stack=stack, source="volume:shop_uploads", point=PointId(f"p{days}"), parts=1, size=1, files=files or 0
        )
    )
    if files is None:  # one that an older Holdfast made
        tags.remove("files=0")
    made = Snapshot(id=SnapshotId(f"{days}"), time=NOW - timedelta(days=days), tree="0" * 64, tags=tuple(tags))
    return restore_points([made])[0]


def test_files_grow_from_backup_to_backup_and_not_from_look_to_look() -> None:
    days = (30, 6, 5, 4, 3, 2, 1)
    points = [restore_point(day, 1000 - 10 * day) for day in days]
    counts = backed_up([*points, restore_point(0, 7, stack="other")], {"shop"}, NOW - timedelta(days=14))
    sizes = counts.pop("volume-backed-up-bytes shop_uploads")
    assert set(counts) == {"volume-files shop_uploads", "stack-files shop"}
    for found in counts.values():
        assert [files for _, files in found] == [940, 950, 960, 970, 980, 990]
    (uploads,) = trends({"volume-bytes shop_uploads": line(1, 2), **counts}, {})
    assert uploads.files == 990
    assert uploads.files_per_day == pytest.approx(10)
    assert growth(uploads.files_per_day, count) == "+10 a day"
    # The engine knows nothing of another driver's volume: what was backed up is what can be told.
    (far,) = trends({"volume-backed-up-bytes shop_uploads": sizes, **counts}, {})
    assert (far.kind, far.name, far.now, far.files) == ("volume's backup", "shop_uploads", 1, 990)
    assert len(trends({"volume-backed-up-bytes x": sizes, "volume-bytes x": line(1, 2)}, {})) == 1
    assert backed_up([restore_point(30, 5)], {"shop"}, NOW)["volume-files shop_uploads"][-1][1] == 5
    assert set(backed_up([restore_point(1, None)], {"shop"}, NOW)) == {"volume-backed-up-bytes shop_uploads"}


def test_thinned_points_keep_both_ends() -> None:
    points = line(1, 2)
    few = thinned(points, 40)
    assert (few[0], few[-1], len(few)) == (points[0], points[-1], 40)
    assert thinned(points[:3], 40) == tuple(points[:3])


@pytest.mark.parametrize(("wanted", "step"), [(0.2, 1), (1, 1), (3, 4), (1000, 1024), (23.3 * GIB, 32 * GIB)])
def test_grid_lines_stand_at_powers_of_two(wanted: float, step: float) -> None:
    assert size_step(wanted) == step


def test_the_picture_is_whole_whatever_the_names_are() -> None:
    found = trends(
        {f"volume-bytes {HOSTILE}": line(1, 2), "filesystem-used-bytes /var": line(60, 74)},
        {"filesystem-used-bytes /var": 81.0 * GIB},
    )
    picture = storage_picture(found)
    assert picture is not None
    root = ElementTree.fromstring(picture)  # noqa: S314  our own
    assert not [node for node in root.iter() if node.tag.endswith("script")]
    assert len([node for node in root.iter() if node.get("class") == "line"]) == 2
    assert len([node for node in root.iter() if node.get("class") == "limit"]) == 1
    assert picture.count("http") == 1  # the name space
    assert "full in 7 d 0 h" in picture
    assert len(picture) < 8000
    assert storage_picture([Trend(kind="store", name="repository", now=1.0)]) is None


class Reader(HTMLParser):
    """The page's text, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def report() -> MonitorReport:
    found = Finding(
        kind="backup-late",
        subject=HOSTILE,
        severity=Severity.CRITICAL,
        found="it is old",
        hint="holdfast backup",
        since=NOW - timedelta(hours=3),
    )
    seen = Seen(
        stack="shop",
        newest=NOW - timedelta(hours=5),
        last_proven=NOW - timedelta(days=2),
        rto=90.0,
        rpo=3600.0,
        size=5 * GIB,
        sources=(SourceSeen(source="volume:shop_uploads", newest=NOW - timedelta(hours=5), size=5 * GIB),),
    )
    return MonitorReport(
        host="host-a",
        time=NOW,
        findings=(found,),
        started=(),
        ended=(),
        stacks=(StackView(seen=seen, next_backup=NOW, next_drill=None),),
        filesystems=(Filesystem(path="/var", total=81.0 * GIB, used=74.0 * GIB, inodes=0.3),),
        measures={"store-bytes": 10.0 * GIB},
        trends=trends({"filesystem-used-bytes /var": line(60, 74), "stack-bytes shop": line(4, 5)}, {}),
        repository="1234",
        verified=NOW - timedelta(hours=7),
        untold=("hook",),
        notes=("a note",),
    )


def test_the_status_page_says_all_that_is_known() -> None:
    page = Reader()
    page.feed(status_page(report(), price=0.5))
    said = " ".join(page.text.split())
    for words in (
        *("CRITICAL", "it is old", "for 3 h 0 min", "To do: holdfast backup", "verified 7 h 0 min ago", "a note"),
        *(
            "volume:shop_uploads: 5 h 0 min ago, 5.0 GiB",
            "2 d 0 h ago",
            "1 min 30 s",
            "1 h 0 min",
            "30 % of its inodes",
        ),
        *("+73.1 MiB a day", "by hand", "5.00"),
    ):
        assert words in said, words
    assert "script" not in page.tags
    fine = msgspec.structs.replace(report(), findings=(), stacks=(), repository="", untold=(), notes=())
    assert "nothing is known of the stacks" in status_page(fine)
    assert "No stack is configured" in status_page(msgspec.structs.replace(fine, repository="12"))
