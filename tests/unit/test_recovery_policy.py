"""Planning recoveries, decided purely: nothing is planned that the archive cannot give, nothing possible is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import RestoreError, TargetOutOfRange, WalMissing
from holdfast.model.base import BaseBackup, RecoveryTarget, TargetKind
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.timeline import Switch, TimelineHistory
from holdfast.model.wal import Lsn, WalSegment, parse_wal_name
from holdfast.policy.recovery import is_recoverable, plan_recovery, ranges
from holdfast.policy.recovery_targets import Piece
from holdfast.policy.wal import Stock, branches, gaps, reach, runs, stock_of

SIZE = 16 << 20
START = datetime(2026, 11, 1, tzinfo=UTC)


def at(number: float) -> datetime:
    """The time at which a segment number was written: one each minute."""
    return START + timedelta(minutes=number)


def base(first: int, *, last: int | None = None, timeline: int = 1) -> BaseBackup:
    """A base that needs the segments from `first` to `last`."""
    last = first if last is None else last
    name = f"{timeline}-{first}"
    return BaseBackup(
        SnapshotId(name), PointId(name), "42", timeline, Lsn(first * SIZE + 40), Lsn(last * SIZE + 999), at(last), SIZE
    )


def stock(*numbers: int, partial: int | None = None, **others: set[int]) -> Stock:
    """Segments of timeline 1, and with t2={...} of another that forks from it (in the middle of its first segment)."""
    segments = {1: frozenset(numbers)} | {int(name[1:]): frozenset(found) for name, found in others.items()}
    histories = {
        timeline: TimelineHistory(timeline, (Switch(1, Lsn(min(found) * SIZE + SIZE // 2)),))
        for timeline, found in segments.items()
        if timeline > 1
    }
    return Stock(SIZE, segments, {1: frozenset([partial])} if partial else {}, histories)


def commits(segment: WalSegment, partial: bool) -> datetime | None:
    """The last commit of each segment: half a minute after it began."""
    return at(segment.number + 0.5)


def target(**given: object) -> RecoveryTarget:
    kind = TargetKind.TIME if "time" in given else TargetKind.LSN if "lsn" in given else TargetKind.LATEST
    return RecoveryTarget(kind, **given)  # type: ignore[arg-type]  # each case gives what its kind takes


NUMBERS = st.frozensets(st.integers(1, 30), max_size=30)


@given(NUMBERS)
def test_runs_and_gaps_are_what_is_there_and_what_is_not(numbers: frozenset[int]) -> None:
    found = stock(*numbers)
    there = {number for run in runs(found, 1) for number in range(run.first.number, run.last.number + 1)}
    missing = {number for gap in gaps(found, 1) for number in range(gap.first.number, gap.last.number + 1)}
    assert there == numbers
    assert missing == (set(range(min(numbers), max(numbers))) - numbers if numbers else set())


@given(NUMBERS, st.integers(1, 30))
def test_a_reach_is_whole_and_ends_where_something_is_missing(numbers: frozenset[int], first: int) -> None:
    found = reach(stock(*numbers), Lsn(first * SIZE + 5), TimelineHistory(1))
    assert [segment.number for segment in found.segments] == list(range(first, first + len(found.segments)))
    assert all(segment.number in numbers for segment in found.segments)
    after = first + len(found.segments)
    assert after not in numbers
    assert (found.missing is not None) == any(number > after for number in numbers)


@given(NUMBERS, st.lists(st.integers(1, 25), min_size=1, max_size=4, unique=True), st.floats(0, 32))
def test_a_time_is_planned_exactly_when_it_can_be_reached(
    numbers: frozenset[int], firsts: list[int], minute: float
) -> None:
    bases, found, when = [base(first) for first in firsts], stock(*numbers), at(minute)

    def possible(first: int) -> bool:
        last = first
        while last + 1 in numbers:
            last += 1
        return first in numbers and at(first) <= when < at(last + 0.5)

    usable = [first for first in firsts if possible(first)]
    try:
        plan = plan_recovery(bases, found, target(time=when), commits)
    except RestoreError:
        assert not usable
        return
    assert plan.base.start // SIZE == max(usable)
    assert all(found.has(segment) for segment in plan.segments)
    assert any(commits(segment, False) > when for segment in plan.segments)  # type: ignore[operator]  # never None here
    assert len(plan.segments) <= minute - plan.base.start // SIZE + 3, "no more is fetched than is needed"


@given(NUMBERS | st.just(frozenset(range(1, 31))), st.integers(1, 25), st.integers(SIZE, 31 * SIZE))
def test_an_lsn_is_planned_exactly_when_it_can_be_reached(numbers: frozenset[int], first: int, lsn: int) -> None:
    made, found = base(first), stock(*numbers)
    needed = range(first, max((lsn - 1) // SIZE, first) + 1)
    possible = lsn >= made.stop and all(number in numbers for number in needed)
    try:
        plan = plan_recovery([made], found, target(lsn=Lsn(lsn)), commits)
    except RestoreError:
        assert not possible
    else:
        assert possible
        whole = [*range(first, max(lsn // SIZE, first) + 2)]  # the record that ends it may begin in the next one
        assert [s.number for s in plan.segments] == [n for n in whole if all(m in numbers for m in range(first, n + 1))]


class Written:
    """WAL of which it is known where its records are."""

    def __init__(self, *places: tuple[str, int], last: int) -> None:
        self.places, self._last = places, Lsn(last)
        self.looked: list[int] = []

    def find(self, target: RecoveryTarget, pieces: Sequence[Piece], since: Lsn) -> tuple[Lsn, Lsn] | None:
        self.looked += [segment.number for segment, _ in pieces]
        for text, lsn in self.places:
            if text == target.text and lsn >= since and any(s.begin <= lsn < s.end for s, _ in pieces):
                return Lsn(lsn), Lsn(lsn + 40)
        return None

    def last(self, pieces: Sequence[Piece]) -> Lsn:
        return self._last


def test_a_transaction_is_reached_from_the_newest_base_before_it() -> None:
    found = stock(*range(3, 12))
    written = Written(("701", 5 * SIZE + 99), ("702", 9 * SIZE + 99), ("703", 8 * SIZE + 50), last=11 * SIZE)

    def plan(xid: str) -> tuple[int, int]:
        wanted = RecoveryTarget(TargetKind.XID, text=xid)
        made = plan_recovery([base(3), base(8, last=8)], found, wanted, commits, written)
        return made.base.start // SIZE, made.segments[-1].number

    assert plan("701") == (3, 6)
    assert plan("702") == (8, 10)
    assert plan("703") == (3, 9), "behind the start of the second, but before its end"
    written.looked.clear()
    with pytest.raises(TargetOutOfRange, match=r"not in the archived WAL.*wanted from 2026-11-01 00:03.*no xid 999"):
        plan("999")
    assert sorted(set(written.looked)) == list(range(3, 12))
    assert len(written.looked) == 9 + 1, "each is read once, but for the one across the border"


def test_an_address_behind_the_last_record_is_refused() -> None:
    written = Written(last=5 * SIZE + 500)
    plan = plan_recovery([base(3)], stock(3, 4, 5), target(lsn=Lsn(5 * SIZE + 500)), commits, written)
    assert [segment.number for segment in plan.segments] == [3, 4, 5]
    with pytest.raises(TargetOutOfRange, match=r"beyond the end.*last record that is archived begins at 0/50001F4"):
        plan_recovery([base(3)], stock(3, 4, 5), target(lsn=Lsn(5 * SIZE + 501)), commits, written)


def test_a_server_that_was_left_behind_never_fills_a_gap_of_its_successor() -> None:
    """Its segments behind the fork are another story, though they have the numbers that are missing."""
    left_behind = stock(3, 4, 5, 6, 7, 8, t2={5, 7, 8})
    plan = plan_recovery([base(3)], left_behind, target(), commits)
    assert [(segment.timeline, segment.number) for segment in plan.segments] == [(1, 3), (1, 4), (2, 5)]
    assert plan.possible.reach.missing == WalSegment(2, 6, SIZE)
    lost = dataclasses.replace(left_behind, segments={1: frozenset(range(3, 9)), 2: frozenset({7, 8})})
    plan = plan_recovery([base(3)], lost, target(), commits)
    assert [segment.number for segment in plan.segments] == [3, 4]
    assert plan.possible.reach.missing == WalSegment(2, 5, SIZE)


def test_what_lies_on_another_branch_is_refused_and_the_branch_named() -> None:
    split = stock(*range(3, 20), t2={5, 6, 7})
    with pytest.raises(TargetOutOfRange, match=r"beyond the end.*on timeline 2") as caught:
        plan_recovery([base(3), base(9)], split, target(time=at(12)), commits)
    assert caught.value.hint == "timeline 1 has it, which is another branch: --timeline 1"
    chosen = RecoveryTarget(TargetKind.TIME, time=at(12), timeline=1)
    assert plan_recovery([base(3), base(9)], split, chosen, commits).history.timeline == 1
    assert plan_recovery([base(3), base(9)], split, target(time=at(5.2)), commits).history.timeline == 2


def test_a_timeline_with_nothing_but_a_history_is_not_the_newest() -> None:
    """A copy that was promoted for a look, and archived its history."""
    found = stock(*range(3, 12))
    looked = dataclasses.replace(found, histories={2: TimelineHistory(2, (Switch(1, Lsn(6 * SIZE + 5)),))})
    plan = plan_recovery([base(3), base(8)], looked, target(), commits)
    assert (plan.history.timeline, plan.base.start // SIZE, plan.segments[-1].number) == (1, 8, 11)


def test_branches_are_what_goes_on_elsewhere() -> None:
    assert branches(stock(3, 4, t2={5, 6}), TimelineHistory(1)) == [WalSegment(2, 6, SIZE)]
    split = stock(3, 4, 5, partial=6, t2={5, 6})
    assert branches(split, split.histories[2]) == [WalSegment(1, 6, SIZE)]
    left = stock(3, 4, partial=5, t2={5, 6})
    assert branches(left, left.histories[2]) == [], "the unfinished one of the fork is in the new timeline's"


def test_a_refusal_says_what_is_possible() -> None:
    with pytest.raises(
        TargetOutOfRange, match=r"before the end.*wanted from 2026-11-01 00:03.*to before 2026-11-01 00:06:30"
    ):
        plan_recovery([base(3)], stock(3, 4, 5, 6), target(time=at(2)), commits)
    with pytest.raises(TargetOutOfRange, match=r"beyond the end.*from 2026-11-01 00:03"):
        plan_recovery([base(3), base(5)], stock(3, 4, 5, 6), target(time=at(9)), commits)
    with pytest.raises(RestoreError, match="no base backup"):
        plan_recovery([], stock(3), target(), commits)


def test_a_missing_segment_is_named_with_the_last_reachable_time() -> None:
    with pytest.raises(WalMissing, match=r"000000010000000000000005.*00:04:30"):
        plan_recovery([base(3)], stock(3, 4, 6, 7), target(time=at(7)), commits)
    with pytest.raises(WalMissing, match="000000010000000000000004"):
        plan_recovery([base(3, last=4)], stock(3, 5), target(), commits)


def test_the_partial_segment_is_the_last_one_used() -> None:
    plan = plan_recovery([base(3)], stock(3, 4, partial=5), target(), commits)
    assert plan.partial == WalSegment(1, 5, SIZE)
    plan = plan_recovery([base(3)], stock(3, 4, partial=5), target(time=at(5.2)), commits)
    assert plan.partial == WalSegment(1, 5, SIZE)
    assert plan_recovery([base(3)], stock(3, 4, 5, partial=5), target(), commits).partial is None


def test_across_a_switch_each_segment_comes_from_the_timeline_that_it_belongs_to() -> None:
    found = stock(3, 4, 5, 6, t2={5, 6, 7})
    plan = plan_recovery([base(3)], found, target(), commits)
    assert [(segment.timeline, segment.number) for segment in plan.segments] == [(1, 3), (1, 4), (2, 5), (2, 6), (2, 7)]
    assert plan.timelines == (2,)
    old = RecoveryTarget(TargetKind.LATEST, timeline=1)
    assert [s.timeline for s in plan_recovery([base(3)], found, old, commits).segments] == [1, 1, 1, 1]


def test_a_base_after_the_fork_does_not_lie_on_the_new_timeline() -> None:
    found = stock(3, 4, 5, 6, t2={5, 6, 7})
    plan = plan_recovery([base(3), base(6)], found, target(), commits)
    assert plan.base.start // SIZE == 3
    plan = plan_recovery([base(3), base(6)], found, RecoveryTarget(TargetKind.LATEST, timeline=1), commits)
    assert plan.base.start // SIZE == 6
    with pytest.raises(TargetOutOfRange, match="timeline 9: wanted one of 1, 2"):
        plan_recovery([base(3)], found, RecoveryTarget(TargetKind.LATEST, timeline=9), commits)


def test_recoverable_means_that_the_own_wal_is_whole() -> None:
    assert is_recoverable(base(3, last=5), stock(3, 4, 5))
    assert not is_recoverable(base(3, last=5), stock(3, 5))
    assert [possible.until for possible in ranges([base(3)], stock(3, 4), commits)] == [at(4.5)]


def test_a_base_that_stops_where_a_segment_begins_needs_that_one_too() -> None:
    """A standby's may, and PostgreSQL 15 is not consistent before it finds something behind that point."""
    at_boundary = dataclasses.replace(base(3), stop=Lsn(4 * base(3).segment_size))
    assert not is_recoverable(at_boundary, stock(3))
    assert is_recoverable(at_boundary, stock(3, 4))


def test_segments_without_a_commit_are_stepped_over() -> None:
    def few(segment: WalSegment, partial: bool) -> datetime | None:
        return commits(segment, partial) if segment.number % 5 == 3 else None

    found: Callable[[int], int] = lambda minute: len(  # noqa: E731  a word for one line
        plan_recovery([base(3)], stock(*range(3, 20)), target(time=at(minute)), few).segments
    )
    assert found(9) == 13 - 3 + 2
    assert found(4) == 8 - 3 + 2


def test_a_stock_is_made_of_names() -> None:
    texts = ("000000010000000000000003", "000000010000000000000004.partial", "00000002.history")
    made = stock_of(name for text in texts if (name := parse_wal_name(text)))
    assert made.segments == {1: frozenset({3})}
    assert made.partials == {1: frozenset({4})}
