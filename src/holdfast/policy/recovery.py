"""Planning a recovery: which base backup, along which timelines, with which WAL, or why not and what is possible.

Rules upheld here:
- Nothing is planned that cannot be reached: every segment from the base's start to the target is there, the target lies
  at or after the base's end (PostgreSQL refuses anything before it), and something was written after a time target
  (PostgreSQL ends in an error when it never sees a later commit).
- Of several base backups the one that needs the least WAL is taken: the newest whose end is before the target.
- A refusal says what range is possible, and which segment is missing.

Source: PostgreSQL manual, "Recovery Target"; xlogrecovery.c (recoveryStopsBefore).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from holdfast.errors import RestoreError, TargetOutOfRange, WalMissing
from holdfast.model.base import BaseBackup, RecoveryTarget, TargetKind
from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import Lsn, WalSegment
from holdfast.policy.wal import Reach, Stock, descendants, reach

LastCommit = Callable[[WalSegment, bool], datetime | None]
"""The time of the last commit in an archived segment (the flag asks for the partial one); None when it has none."""


@dataclass(frozen=True, slots=True)
class Possible:
    """Where a base backup can be recovered to along one history: from its own end to the archive's."""

    base: BaseBackup
    history: TimelineHistory
    reach: Reach
    until: datetime | None

    @property
    def from_time(self) -> datetime:
        """The end of the base backup."""
        return self.base.stopped

    def words(self) -> str:
        """The range, for people."""
        until = f"{self.until.isoformat(sep=' ')} ({self.reach.end})" if self.until else str(self.reach.end)
        return f"{self.from_time.isoformat(sep=' ')} ({self.base.stop}) to {until} on timeline {self.history.timeline}"


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """A recovery that can be done: the base, the target, the history, the files needed in order."""

    base: BaseBackup
    target: RecoveryTarget
    history: TimelineHistory
    segments: tuple[WalSegment, ...]
    partial: WalSegment | None
    possible: Possible

    @property
    def timelines(self) -> tuple[int, ...]:
        """The timelines whose history files PostgreSQL will ask for."""
        return tuple(stretch.timeline for stretch in self.history.stretches if stretch.timeline > 1)


def plan_recovery(
    bases: Sequence[BaseBackup], stock: Stock, target: RecoveryTarget, last_commit: LastCommit
) -> RecoveryPlan:
    """The recovery that reaches a target.

    Args:
        bases: the base backups of one cluster.
        stock: its WAL archive.
        target: where to go.
        last_commit: reads the time of a segment's last commit.

    Raises: TargetOutOfRange with the possible range, WalMissing naming the segment, RestoreError without any base.
    """
    if not bases:
        raise RestoreError("there is no base backup to recover from", hint="take one: holdfast backup")
    if target.kind is TargetKind.LATEST or target.kind is TargetKind.CONSISTENT:
        return _last_resort(bases, stock, target, last_commit)
    refusals: list[tuple[Possible, RestoreError]] = []
    found = [_possible(base, history, stock, last_commit) for base, history in _ways(bases, stock, target)]
    usable = [possible for possible in found if is_recoverable(possible.base, stock)]
    if found and not usable:
        raise _incomplete(found[0], stock)
    for possible in usable:
        try:
            return _along(possible, stock, target, last_commit)
        except (TargetOutOfRange, WalMissing) as error:
            refusals.append((possible, error))
    raise _best(refusals, target)


def ranges(bases: Sequence[BaseBackup], stock: Stock, last_commit: LastCommit) -> list[Possible]:
    """For each base backup, oldest first, how far it can be recovered along each history that goes on from it."""
    target = RecoveryTarget(TargetKind.LATEST)
    found = [_possible(base, history, stock, last_commit) for base, history in _ways(bases, stock, target)]
    return sorted(found, key=lambda possible: (possible.base.stopped, possible.history.timeline))


def instant_within(possible: Possible, after: datetime, share: float) -> datetime | None:
    """An instant that can be recovered to: so far (0 to 1) from `after` to the last commit; None where there is none.

    It is at or after the base's end, and before the last commit, which PostgreSQL has to see to know where to stop.
    """
    begin = max(possible.from_time, after)
    if possible.until is None or possible.until <= begin:
        return None
    found = begin + (possible.until - begin) * min(max(share, 0.0), 1.0)
    return found if found < possible.until else None


def is_recoverable(base: BaseBackup, stock: Stock) -> bool:
    """Whether every segment from the base's start to its stop is archived (or in the base), and what it builds on."""
    if base.lost:
        return False
    if base.self_contained:
        return True
    return all(stock.has(segment) for segment in needed_by(base))


def needed_by(base: BaseBackup) -> list[WalSegment]:
    """The segments without which the base backup is worth nothing: from start to stop on its own timeline.

    A base from a standby may stop where a segment begins. PostgreSQL 15 then ends recovery without being consistent
    when it finds nothing behind that point: the segment that begins there belongs to it.
    """
    first, last = base.start // base.segment_size, max(base.start, base.stop) // base.segment_size
    return [WalSegment(base.timeline, number, base.segment_size) for number in range(first, last + 1)]


def _ways(
    bases: Sequence[BaseBackup], stock: Stock, target: RecoveryTarget
) -> list[tuple[BaseBackup, TimelineHistory]]:
    """Bases with the histories that lead on from them: newest timeline first, then newest base."""
    found = [
        (base, history)
        for base in bases
        for history in descendants(stock, base.timeline, base.stop)
        if target.timeline is None or history.timeline == target.timeline
    ]
    return sorted(found, key=lambda way: (way[1].timeline, way[0].stop), reverse=True)


def _possible(base: BaseBackup, history: TimelineHistory, stock: Stock, last_commit: LastCommit) -> Possible:
    found = reach(stock, base.start, history)
    if found.end < base.stop and not base.self_contained:
        return Possible(base, history, found, None)
    until = last_commit(found.partial, True) if found.partial else None
    for segment in () if until else reversed(found.segments):
        until = last_commit(segment, False)
        if until is not None:
            break
    return Possible(base, history, found, until)


def _last_resort(
    bases: Sequence[BaseBackup], stock: Stock, target: RecoveryTarget, last_commit: LastCommit
) -> RecoveryPlan:
    """The newest base that can be used at all: for the end of the archive, or for its own."""
    ways = _ways(bases, stock, target)
    if target.kind is TargetKind.CONSISTENT:
        ways = [way for way in ways if way[1].timeline == way[0].timeline] or ways
    found = [_possible(base, history, stock, last_commit) for base, history in ways]
    for possible in found:
        if is_recoverable(possible.base, stock):
            base, reached = possible.base, possible.reach
            if target.kind is TargetKind.CONSISTENT:
                segments = () if base.self_contained else tuple(needed_by(base))
                return RecoveryPlan(base, target, possible.history, segments, None, possible)
            return RecoveryPlan(base, target, possible.history, reached.segments, reached.partial, possible)
    if not found:
        raise TargetOutOfRange("no base backup lies on this timeline", which=f"timeline {target.timeline}")
    raise _incomplete(found[0], stock)


def _along(possible: Possible, stock: Stock, target: RecoveryTarget, last_commit: LastCommit) -> RecoveryPlan:
    """The plan from one base along one history. Raises: TargetOutOfRange, WalMissing."""
    base, reached = possible.base, possible.reach
    if target.kind is TargetKind.LSN and target.lsn is not None:
        segments, partial = _to_lsn(possible, stock, target.lsn)
    elif target.kind is TargetKind.TIME and target.time is not None:
        segments, partial = _to_time(possible, target.time, last_commit)
    else:  # where a transaction or a name lies only PostgreSQL can tell
        segments, partial = reached.segments, reached.partial
    return RecoveryPlan(base, target, possible.history, segments, partial, possible)


def _to_lsn(possible: Possible, stock: Stock, lsn: Lsn) -> tuple[tuple[WalSegment, ...], WalSegment | None]:
    base, reached = possible.base, possible.reach
    if lsn < base.stop:
        raise _out_of_range("the target lies before the end of the base backup", possible, str(lsn))
    wanted = reach(stock, base.start, possible.history, until=lsn)
    if wanted.end >= lsn:
        return wanted.segments, None
    if reached.partial is not None and lsn <= reached.partial.end:
        return reached.segments, reached.partial
    raise _beyond(possible, str(lsn))


def _to_time(
    possible: Possible, when: datetime, last_commit: LastCommit
) -> tuple[tuple[WalSegment, ...], WalSegment | None]:
    base, reached = possible.base, possible.reach
    if when < base.stopped:
        raise _out_of_range("the target lies before the end of the base backup", possible, when.isoformat(sep=" "))
    if possible.until is None or when >= possible.until:
        raise _beyond(possible, when.isoformat(sep=" "))
    count = _first_after(reached.segments, when, last_commit)
    if count is None:
        return reached.segments, reached.partial
    # PostgreSQL may have to look a little further to see the commit whole: one more where there is one.
    return reached.segments[: count + 2], None


def _first_after(segments: Sequence[WalSegment], when: datetime, last_commit: LastCommit) -> int | None:
    """The first segment with a commit after a time, found by halving; segments without a commit are stepped over."""
    low, high, found = 0, len(segments) - 1, None
    while low <= high:
        middle = at = (low + high) // 2
        seen = last_commit(segments[at], False)
        while seen is None and at < high:
            at += 1
            seen = last_commit(segments[at], False)
        if seen is None:
            high = middle - 1
        elif seen > when:
            found, high = at, middle - 1
        else:
            low = at + 1
    return found


def _best(refusals: Sequence[tuple[Possible, RestoreError]], target: RecoveryTarget) -> RestoreError:
    """Of several refusals, on the newest timeline: that of the newest base before the target, else of the oldest one.

    The range that it tells is that of all of them.
    """
    if not refusals:
        return TargetOutOfRange("no base backup lies on this timeline", which=f"timeline {target.timeline}")
    newest = refusals[0][0].history.timeline
    same = [(possible, error) for possible, error in refusals if possible.history.timeline == newest]
    started = [error for possible, error in same if not _is_before(possible, target)]
    error = started[0] if started else same[-1][1]
    if isinstance(error, TargetOutOfRange):
        oldest = min((possible for possible, _ in same), key=lambda possible: possible.base.stopped)
        error.wanted = f"from {oldest.words()}"
    return error


def _is_before(possible: Possible, target: RecoveryTarget) -> bool:
    """Whether the target lies before the base's end."""
    if target.time is not None:
        return target.time < possible.base.stopped
    return target.lsn is not None and target.lsn < possible.base.stop


def _out_of_range(what: str, possible: Possible, found: str) -> TargetOutOfRange:
    return TargetOutOfRange(what, wanted=f"from {possible.words()}", found=found, hint="holdfast wal status")


def _beyond(possible: Possible, found: str) -> RestoreError:
    missing = possible.reach.missing
    if missing is not None:
        last = possible.until.isoformat(sep=" ") if possible.until else "none"
        return WalMissing(
            "a WAL segment is missing before the target",
            which=missing.name,
            wanted=f"every segment up to {found}",
            found=f"the last reachable commit is of {last} ({possible.reach.end})",
            hint="recover to that time, or from a later base backup",
        )
    return _out_of_range("the target lies beyond the end of the archive", possible, found)


def _incomplete(possible: Possible, stock: Stock) -> RestoreError:
    if possible.base.lost:
        return RestoreError(
            "an incremental base backup builds on one that is gone, it cannot be used",
            which=possible.base.point,
            wanted="every base backup back to the full one",
            hint="take a new one: holdfast backup",
        )
    lost = next(segment for segment in needed_by(possible.base) if not stock.has(segment))
    return WalMissing(
        "the base backup's own WAL is not whole, it cannot be used",
        which=lost.name,
        wanted=f"every segment from {possible.base.start} to {possible.base.stop}",
        hint="ship what the spool holds (holdfast wal ship), or use an older base backup",
    )
