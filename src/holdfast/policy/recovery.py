"""Planning a recovery: which base backup, along which timelines, with which WAL, or why not and what is possible.

Rules upheld here:
- Nothing is planned that cannot be reached: every segment from the base's start to the target is there, the target lies
  at or after the base's end (PostgreSQL refuses anything before it), and something was written after a time target
  (PostgreSQL ends in an error when it never sees a later commit).
- Of several base backups the one that needs the least WAL is taken: the newest whose end is before the target.
- Of several timelines the newest one with WAL of its own is meant. What lies on another is refused, and that one named:
  a server that was left behind may have gone on writing there.
- A refusal says what range is possible, and which segment is missing.

Source: PostgreSQL manual, "Recovery Target"; xlogrecovery.c (recoveryStopsBefore).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from holdfast.errors import RestoreError, TargetOutOfRange, WalMissing
from holdfast.model.base import BaseBackup, RecoveryTarget, TargetKind
from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import WalSegment
from holdfast.policy.recovery_targets import LastCommit, Possible, Records, RecoveryPlan, along, to_record
from holdfast.policy.wal import Stock, descendants, rank, reach


def plan_recovery(
    bases: Sequence[BaseBackup],
    stock: Stock,
    target: RecoveryTarget,
    last_commit: LastCommit,
    records: Records | None = None,
) -> RecoveryPlan:
    """The recovery that reaches a target.

    Args:
        bases: the base backups of one cluster.
        stock: its WAL archive.
        target: where to go.
        last_commit: reads the time of a segment's last commit.
        records: looks into segments. Without it a transaction, a name, and what lies in the last segment are believed.

    Raises: TargetOutOfRange with the possible range, WalMissing naming the segment, RestoreError without any base.
    """
    if not bases:
        raise RestoreError("there is no base backup to recover from", hint="take one: holdfast backup")
    if target.kind is TargetKind.LATEST or target.kind is TargetKind.CONSISTENT:
        return _last_resort(bases, stock, target, last_commit)
    found = [_possible(base, history, stock, last_commit) for base, history in _ways(bases, stock, target)]
    usable = [possible for possible in found if is_recoverable(possible.base, stock)]
    if found and not usable:
        raise _incomplete(found[0], stock)
    by_history: dict[int, list[Possible]] = {}  # the one that is meant first
    for possible in usable:
        by_history.setdefault(possible.history.timeline, []).append(possible)
    if not by_history:
        raise _no_such_timeline(bases, stock, target)
    meant, *others = by_history.values()
    try:
        return _along_one(meant, target, last_commit, records)
    except (TargetOutOfRange, WalMissing) as error:
        for other in others:
            if _leads_there(other, target, last_commit, records):
                timeline = other[0].history.timeline
                error.hint = f"timeline {timeline} has it, which is another branch: --timeline {timeline}"
                break
        raise


def _along_one(
    usable: Sequence[Possible], target: RecoveryTarget, last_commit: LastCommit, records: Records | None
) -> RecoveryPlan:
    """The plan along one history, from the newest base that leads there. Raises: TargetOutOfRange, WalMissing."""
    if records is not None and target.kind in (TargetKind.XID, TargetKind.NAME):
        return to_record(usable, target, records)
    refusals: list[tuple[Possible, RestoreError]] = []
    for possible in usable:
        try:
            return along(possible, target, last_commit, records)
        except (TargetOutOfRange, WalMissing) as error:
            refusals.append((possible, error))
    raise _best(refusals, target)


def _leads_there(
    usable: Sequence[Possible], target: RecoveryTarget, last_commit: LastCommit, records: Records | None
) -> bool:
    try:
        _along_one(usable, target, last_commit, records)
    except RestoreError:
        return False
    return True


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
    """Bases with the histories that lead on from them: newest timeline first, then newest base.

    Timelines without any WAL of their own come last.
    """
    found = [
        (base, history)
        for base in bases
        for history in descendants(stock, base.timeline, base.stop)
        if target.timeline is None or history.timeline == target.timeline
    ]
    return sorted(found, key=lambda way: (*rank(stock, way[1].timeline), way[0].stop), reverse=True)


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
        raise _no_such_timeline(bases, stock, target)
    raise _incomplete(found[0], stock)


def _best(refusals: Sequence[tuple[Possible, RestoreError]], target: RecoveryTarget) -> RestoreError:
    """Of several refusals that of the newest base before the target, else of the oldest one.

    The range that it tells is that of all of them.
    """
    started = [error for possible, error in refusals if not _is_before(possible, target)]
    error = started[0] if started else refusals[-1][1]
    if isinstance(error, TargetOutOfRange):
        oldest = min((possible for possible, _ in refusals), key=lambda possible: possible.base.stopped)
        error.wanted = f"from {oldest.words()}"
    return error


def _is_before(possible: Possible, target: RecoveryTarget) -> bool:
    """Whether the target lies before the base's end."""
    if target.time is not None:
        return target.time < possible.base.stopped
    return target.lsn is not None and target.lsn < possible.base.stop


def _no_such_timeline(bases: Sequence[BaseBackup], stock: Stock, target: RecoveryTarget) -> TargetOutOfRange:
    known = sorted({history.timeline for base in bases for history in descendants(stock, base.timeline, base.stop)})
    return TargetOutOfRange(
        "no base backup lies on this timeline",
        which=f"timeline {target.timeline}",
        wanted=f"one of {', '.join(map(str, known))}",
        hint="holdfast wal status",
    )


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
