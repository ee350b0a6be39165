"""Expiry of WAL, decided purely: nothing inside the window is lost, nothing is removed twice."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import RestoreError
from holdfast.model.base import BaseBackup, RecoveryTarget, TargetKind
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.timeline import Switch, TimelineHistory
from holdfast.model.wal import Lsn, WalName, WalSegment, parse_wal_name
from holdfast.policy.recovery import is_recoverable, plan_recovery
from holdfast.policy.recovery_targets import RecoveryPlan
from holdfast.policy.retention import Duration
from holdfast.policy.wal import Stock, stock_of
from holdfast.policy.wal_expiry import bases_for_window, expire

SIZE = 16 << 20
START = datetime(2026, 11, 1, tzinfo=UTC)
LAST = 60
NOW = START + timedelta(hours=LAST)


def at(number: float) -> datetime:
    """One segment each hour."""
    return START + timedelta(hours=number)


def base(number: int, timeline: int = 1) -> BaseBackup:
    name = f"{timeline}-{number}"
    start = Lsn(number * SIZE + 40)
    return BaseBackup(SnapshotId(name), PointId(name), "42", timeline, start, Lsn(start + SIZE), at(number + 1), SIZE)


def named(timeline: int, number: int) -> WalName:
    found = parse_wal_name(WalSegment(timeline, number, SIZE).name)
    assert found is not None
    return found


def commits(segment: WalSegment, partial: bool) -> datetime:
    return at(segment.number + 0.9)


def archive(numbers: frozenset[int], fork: int | None) -> tuple[list[WalName], list[TimelineHistory]]:
    """Segments of timeline 1, and from the fork on the same ones of timeline 2."""
    names = [named(1, number) for number in sorted(numbers)]
    if fork is None:
        return names, []
    names += [named(2, number) for number in sorted(numbers) if number >= fork]
    names.append(WalName("00000002.history", parse_wal_name("00000002.history").kind, 2))  # type: ignore[union-attr]  # the name is a valid one
    return names, [TimelineHistory(2, (Switch(1, Lsn(fork * SIZE + 99)),))]


WINDOWS = st.builds(Duration, days=st.integers(0, 2), hours=st.integers(0, 23))
NUMBERS = st.frozensets(st.integers(1, LAST - 1), min_size=20) | st.just(frozenset(range(1, LAST)))
BASES = st.lists(st.tuples(st.integers(1, LAST - 2), st.sampled_from([1, 2])), min_size=1, max_size=6, unique=True)
FORKS = st.none() | st.integers(5, LAST - 5)


def made(
    numbers: frozenset[int], fork: int | None, places: list[tuple[int, int]]
) -> tuple[list[WalName], list[TimelineHistory], list[BaseBackup]]:
    names, histories = archive(numbers, fork)
    bases = [base(number, 1 if fork is None or number < fork else timeline) for number, timeline in places]
    return names, histories, list({found.snapshot: found for found in bases}.values())


def reachable(bases: list[BaseBackup], stock: Stock, when: datetime, timeline: int) -> RecoveryPlan | None:
    try:
        return plan_recovery(bases, stock, RecoveryTarget(TargetKind.TIME, time=when, timeline=timeline), commits)
    except RestoreError:
        return None


@given(NUMBERS, FORKS, BASES, WINDOWS, st.data())
def test_what_could_be_recovered_inside_the_window_still_can(
    numbers: frozenset[int], fork: int | None, places: list[tuple[int, int]], window: Duration, data: st.DataObject
) -> None:
    names, histories, bases = made(numbers, fork, places)
    before = stock_of(names, histories, segment_size=SIZE)
    needed = bases_for_window(bases, before, window, now=NOW)
    # Retention may keep others for reasons of its own.
    others = data.draw(st.sets(st.sampled_from([found.snapshot for found in bases])))
    kept = [found for found in bases if found.snapshot in needed or found.snapshot in others]
    decisions = expire(names, before, kept, window, now=NOW)
    assert sorted(name for decision in decisions for name in decision.names) == sorted(name.text for name in names)
    left = [name for name in names if name.text in {n for d in decisions if d.keep for n in d.names}]
    after = stock_of(left, histories, segment_size=SIZE)

    for found in kept:
        assert is_recoverable(found, after) == is_recoverable(found, before)
    begin = max(window.before(NOW), START)
    when = begin + (NOW - begin) * data.draw(st.floats(0, 1))
    for timeline in (1, 2) if fork else (1,):
        if reachable(bases, before, when, timeline):
            assert reachable(kept, after, when, timeline), (when, timeline)
    again = expire(left, after, kept, window, now=NOW)
    assert all(decision.keep for decision in again), "planned anew, nothing more goes"
    assert set(bases_for_window(kept, after, window, now=NOW)) == set(needed) & {found.snapshot for found in kept}


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[WalName], list[TimelineHistory], list[BaseBackup]]:
    """Up to three timelines, forked from any of the others, each with holes and an end of its own; some base backups
    of a server whose clock was wrong, some that lost what they build on."""
    histories = {1: TimelineHistory(1)}
    for timeline in range(2, 2 + draw(st.integers(0, 2))):
        parent = draw(st.sampled_from(sorted(histories)))
        begun = histories[parent].switches[-1].at // SIZE if histories[parent].switches else 0
        fork = draw(st.integers(begun + 1, LAST - 3))
        switches = (*histories[parent].switches, Switch(parent, Lsn(fork * SIZE + 99)))
        histories[timeline] = TimelineHistory(timeline, switches)
    names, bases = [], {}
    for timeline, history in histories.items():
        first = history.switches[-1].at // SIZE if history.switches else 1
        holes, end = draw(st.frozensets(st.integers(first, LAST), max_size=2)), draw(st.integers(first, LAST))
        names += [named(timeline, number) for number in range(first, end) if number not in holes]
        names += [found for found in [parse_wal_name(f"{timeline:08X}.history")] if found and timeline > 1]
        for number in draw(st.lists(st.integers(first, LAST - 2), max_size=4, unique=True)):
            wrong = timedelta(hours=draw(st.sampled_from([0, 0, 0, -30, 30])))
            made = base(number, timeline)
            bases[made.snapshot] = dataclasses.replace(
                made, stopped=made.stopped + wrong, lost=draw(st.integers(0, 3)) == 0
            )
    return names, [histories[timeline] for timeline in histories if timeline > 1], list(bases.values())


@settings(max_examples=400)
@given(worlds(), WINDOWS, st.data())
def test_with_several_timelines_holes_and_wrong_clocks_nothing_inside_the_window_is_lost(
    world: tuple[list[WalName], list[TimelineHistory], list[BaseBackup]], window: Duration, data: st.DataObject
) -> None:
    names, histories, bases = world
    before = stock_of(names, histories, segment_size=SIZE)
    needed = bases_for_window(bases, before, window, now=NOW)
    others = data.draw(st.sets(st.sampled_from([found.snapshot for found in bases]))) if bases else set()
    kept = [found for found in bases if found.snapshot in needed or found.snapshot in others]
    decisions = expire(names, before, kept, window, now=NOW)
    left = [name for name in names if name.text in {n for d in decisions if d.keep for n in d.names}]
    after = stock_of(left, histories, segment_size=SIZE)
    assert [is_recoverable(found, after) for found in kept] == [is_recoverable(found, before) for found in kept]
    begin = max(window.before(NOW), START)
    when = begin + (NOW - begin) * data.draw(st.floats(0, 1))
    for timeline in (1, 2, 3):
        if reachable(bases, before, when, timeline):
            assert reachable(kept, after, when, timeline), (when, timeline)
    assert all(decision.keep for decision in expire(left, after, kept, window, now=NOW))


@given(NUMBERS, FORKS, BASES)
def test_without_a_window_everything_after_the_oldest_kept_base_stays(
    numbers: frozenset[int], fork: int | None, places: list[tuple[int, int]]
) -> None:
    names, histories, bases = made(numbers, fork, places)
    decisions = expire(names, stock_of(names, histories, segment_size=SIZE), bases, None, now=NOW)
    gone = [parse_wal_name(name) for decision in decisions if not decision.keep for name in decision.names]
    oldest = min(found.start for found in bases) // SIZE
    assert all(name is not None and name.segment(SIZE).number < oldest for name in gone)
    kept = {n for d in decisions if d.keep for n in d.names}
    assert {name.text for name in names if name.kind == "history"} <= kept


@given(NUMBERS, FORKS, BASES, st.none() | WINDOWS, st.data())
def test_what_was_forgotten_takes_nothing_from_the_others_and_keeps_what_it_needs(
    numbers: frozenset[int],
    fork: int | None,
    places: list[tuple[int, int]],
    window: Duration | None,
    data: st.DataObject,
) -> None:
    names, histories, bases = made(numbers, fork, places)
    stock = stock_of(names, histories, segment_size=SIZE)
    gone = data.draw(st.sets(st.sampled_from([found.snapshot for found in bases])))
    kept = [found for found in bases if found.snapshot not in gone]
    forgotten = [found for found in bases if found.snapshot in gone]

    def stays(kept: list[BaseBackup], forgotten: list[BaseBackup]) -> set[str]:
        decisions = expire(names, stock, kept, window, now=NOW, forgotten=forgotten)
        return {name for decision in decisions if decision.keep for name in decision.names}

    assert stays(kept, forgotten) >= stays(kept, []) | (stays(bases, []) if kept else set())


def test_without_a_base_nothing_goes() -> None:
    names, _ = archive(frozenset(range(1, 9)), None)
    assert all(decision.keep for decision in expire(names, stock_of(names, segment_size=SIZE), [], None, now=NOW))


def test_fourteen_days_then_weekly_as_an_operator_would_expect() -> None:
    """Bases each 10 hours, a window of 20 hours, and one older base that a weekly rule keeps."""
    names, _ = archive(frozenset(range(1, LAST)), None)
    bases = [base(number) for number in (5, 15, 25, 35, 45)]
    stock = stock_of(names, segment_size=SIZE)
    needed = bases_for_window(bases, stock, Duration(hours=20), now=NOW)
    assert needed == {
        "1-35": "begins the recovery window on timeline 1",
        "1-45": "inside the recovery window",
    }
    kept = [found for found in bases if found.snapshot in needed or found.snapshot == "1-5"]
    decisions = expire(names, stock, kept, Duration(hours=20), now=NOW)
    runs = [(d.keep, d.names[0][-2:], d.names[-1][-2:]) for d in decisions]
    assert runs == [
        (False, "01", "04"),
        (True, "05", "06"),
        (False, "07", "22"),
        (True, "23", "3B"),
    ]
    assert decisions[1].reason == "base backup 1-5 needs it"
