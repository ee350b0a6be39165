"""Retention, decided purely: properties that must hold whatever the rules and the points are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.snapshot import RestorePoint, Snapshot, tags_for
from holdfast.policy.retention import Decision, Duration, Rules, decide
from holdfast.services.rules import parse_duration

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(minutes=600_000)


def decided(points: Sequence[RestorePoint], rules: Rules, *, proven: Sequence[PointId] = ()) -> list[Decision]:
    return decide(points, rules, now=NOW, proven=proven)


def point(minutes: int, *, whole: bool = True) -> RestorePoint:
    time = START + timedelta(minutes=minutes)
    name = PointId(f"{time:%Y%m%dT%H%M%SZ}-{minutes:06x}")
    snapshot = Snapshot(
        id=SnapshotId(f"{minutes:064x}"),
        time=time,
        tree="0" * 64,
        tags=tags_for(stack="shop", source="path:/x", point=name, size=0, files=0, parts=1 if whole else 2),
    )
    return RestorePoint(id=name, stack="shop", time=time, snapshots=(snapshot,))


POINTS = st.lists(
    st.builds(lambda minutes, whole: point(minutes, whole=whole), st.integers(0, 600_000), st.booleans()),
    max_size=30,
    unique_by=lambda made: made.id,
)
COUNTS = st.none() | st.integers(1, 5)
RULES = st.builds(
    Rules,
    keep_last=COUNTS,
    keep_hourly=COUNTS,
    keep_daily=COUNTS,
    keep_weekly=COUNTS,
    keep_monthly=COUNTS,
    keep_yearly=COUNTS,
    keep_within=st.none() | st.builds(Duration, st.integers(0, 1), st.integers(0, 3), st.integers(0, 40)),
)


def kept(decisions: list[Decision]) -> set[PointId]:
    return {decision.point for decision in decisions if decision.keep}


@given(POINTS, RULES)
def test_the_newest_whole_point_stays_and_every_decision_has_its_reason(
    points: list[RestorePoint], rules: Rules
) -> None:
    decisions = decided(points, rules)
    assert {decision.point for decision in decisions} == {made.id for made in points}
    assert all(decision.reasons for decision in decisions)
    whole = [made for made in points if made.complete]
    if whole:
        assert max(whole, key=lambda made: made.time).id in kept(decisions)
    if points:
        assert kept(decisions)


@given(POINTS, RULES, st.data())
def test_the_last_proven_point_stays(points: list[RestorePoint], rules: Rules, data: st.DataObject) -> None:
    if points:
        proven = data.draw(st.sampled_from(points)).id
        assert proven in kept(decided(points, rules, proven=[proven]))


@given(POINTS, RULES)
def test_planning_again_removes_nothing_more(points: list[RestorePoint], rules: Rules) -> None:
    first = kept(decided(points, rules))
    assert kept(decided([made for made in points if made.id in first], rules)) == first


@given(POINTS, RULES, st.sampled_from(["keep_last", "keep_daily", "keep_yearly"]), st.integers(1, 9))
def test_one_more_rule_never_removes_more(points: list[RestorePoint], rules: Rules, name: str, count: int) -> None:
    if rules.empty or getattr(rules, name) is not None:
        return
    more = Rules(**{**{field: getattr(rules, field) for field in rules.__struct_fields__}, name: count})
    assert kept(decided(points, rules)) <= kept(decided(points, more))


@given(points=POINTS, rules=RULES, data=st.data())
def test_what_a_point_that_stays_builds_on_stays(points: list[RestorePoint], rules: Rules, data: st.DataObject) -> None:
    ordered = sorted(points, key=lambda point: point.time)
    chain = [point.id for point in ordered[: data.draw(st.integers(0, len(ordered)))]]
    builds_on = {point: tuple(chain[:number]) for number, point in enumerate(chain)}
    without = {decision.point for decision in decide(points, rules, now=NOW) if decision.keep}
    kept = {decision.point for decision in decide(points, rules, now=NOW, builds_on=builds_on) if decision.keep}
    assert kept == without | {below for point in without for below in builds_on.get(point, ())}


@given(POINTS)
def test_no_rule_keeps_everything(points: list[RestorePoint]) -> None:
    assert kept(decided(points, Rules())) == {made.id for made in points}


def test_incomplete_points_use_up_no_count() -> None:
    points = [point(0), point(10), point(20, whole=False), point(30, whole=False), point(40)]
    decisions = {decision.point: decision for decision in decided(points, Rules(keep_last=2))}
    assert kept(list(decisions.values())) == {points[1].id, points[4].id}
    assert decisions[points[0].id].reasons == ("no rule keeps it",)


def test_nothing_is_forgotten_after_a_failed_run() -> None:
    points = [point(0), point(10), point(20, whole=False)]
    assert kept(decided(points, Rules(keep_last=1))) == {made.id for made in points}


def test_an_old_incomplete_point_goes() -> None:
    points = [point(0, whole=False), point(10)]
    assert kept(decided(points, Rules(keep_last=5))) == {points[1].id}


@given(POINTS, RULES, st.integers(61, 1_000_000))
def test_a_point_from_the_future_stays_and_changes_nothing_else(
    points: list[RestorePoint], rules: Rules, minutes: int
) -> None:
    ahead = point(600_000 + minutes)
    assert kept(decided([*points, ahead], rules)) == kept(decided(points, rules)) | {ahead.id}


def test_when_the_last_proven_point_is_gone_the_one_before_it_stays() -> None:
    points = [point(0), point(10), point(20)]
    proven = [points[0].id, point(5).id]
    assert kept(decided(points, Rules(keep_last=1), proven=proven)) == {points[0].id, points[2].id}


def test_a_source_that_was_committed_twice_does_not_stand_for_another() -> None:
    half = point(0, whole=False)
    twice = msgspec.structs.replace(half, snapshots=half.snapshots * 2)
    assert not twice.complete


@pytest.mark.parametrize("wrong", [{"keep_last": 0}, {"keep_daily": -1}, {"timezone": "Middle/Earth"}])
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(ValueError, match=r"keeps at least 1|not a time zone"):
        msgspec.convert(wrong, Rules)


def test_days_begin_where_the_zone_says() -> None:
    late, early = point(23 * 60 + 30 - 24 * 60 + 1440), point(24 * 60 + 30)  # 23:30 and 00:30 UTC
    older = point(10)
    rules = Rules(keep_daily=2)
    assert kept(decided([older, late, early], rules)) == {early.id, late.id}
    # In New York the two are one day, so the second of the days kept is that of the oldest.
    there = msgspec.structs.replace(rules, timezone="America/New_York")
    assert kept(decided([older, late, early], there)) == {early.id, older.id}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1y6m2d12h", Duration(1, 6, 2, 12)), ("2d", Duration(days=2)), ("36h", Duration(hours=36))],
)
def test_durations(text: str, wanted: Duration) -> None:
    assert parse_duration(text) == wanted


@pytest.mark.parametrize("text", ["", "0d", "0y0h", "7", "d", "-1d"])
def test_a_duration_without_length_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_a_duration_goes_by_the_calendar() -> None:
    assert Duration(months=1).before(datetime(2026, 3, 31, tzinfo=UTC)) == datetime(2026, 3, 3, tzinfo=UTC)
    assert Duration(years=5000).before(START) == datetime.min.replace(tzinfo=UTC)
