"""From a base backup along one history to a target: the WAL that it takes, or why it cannot be reached. Pure.

Rules upheld here:
- PostgreSQL stops at an address with the first record that begins there or behind it, at a time with the first commit
  after it: without that one it ends in an error, so there has to be one.
- A transaction or a name is looked for before anything is planned: only a base backup before it leads there.
- A refusal says what range is possible, and which segment is missing.

Source: PostgreSQL manual, "Recovery Target"; xlogrecovery.c (recoveryStopsBefore, recoveryStopsAfter).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from holdfast.errors import RestoreError, TargetOutOfRange, WalMissing
from holdfast.model.base import BaseBackup, RecoveryTarget, TargetKind
from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import Lsn, WalSegment
from holdfast.policy.wal import Reach

LastCommit = Callable[[WalSegment, bool], datetime | None]
"""The time of the last commit in an archived segment (the flag asks for the partial one); None when it has none."""

Piece = tuple[WalSegment, bool]
"""An archived segment; True for the partial one."""


class Records(Protocol):
    """Looks into archived WAL."""

    def find(self, target: RecoveryTarget, pieces: Sequence[Piece], since: Lsn) -> tuple[Lsn, Lsn] | None:
        """Where the record of a transaction's end or of a restore point begins and ends; the first one."""
        ...

    def last(self, pieces: Sequence[Piece]) -> Lsn | None:
        """Where the last record that is whole begins."""
        ...


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

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Everything that is archived along the way."""
        whole = tuple((segment, False) for segment in self.reach.segments)
        return whole if self.reach.partial is None else (*whole, (self.reach.partial, True))

    def words(self) -> str:
        """The range, for people."""
        until = f"before {self.until.isoformat(sep=' ')} ({self.reach.end})" if self.until else str(self.reach.end)
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


def along(possible: Possible, target: RecoveryTarget, last_commit: LastCommit, records: Records | None) -> RecoveryPlan:
    """The plan from one base along one history to a time or an address. Raises: TargetOutOfRange, WalMissing."""
    if target.kind is TargetKind.LSN and target.lsn is not None:
        segments, partial = _to_lsn(possible, target.lsn, records)
    elif target.kind is TargetKind.TIME and target.time is not None:
        segments, partial = _to_time(possible, target.time, last_commit)
    else:
        segments, partial = possible.reach.segments, possible.reach.partial
    return RecoveryPlan(possible.base, target, possible.history, segments, partial, possible)


def to_record(usable: Sequence[Possible], target: RecoveryTarget, records: Records) -> RecoveryPlan:
    """The plan to a transaction or a name, from the newest base that lies before it. All of one history.

    Raises: TargetOutOfRange when it is nowhere behind a base's end.
    """
    searched: set[Piece] = set()
    place: tuple[Lsn, Lsn] | None = None
    for possible in usable:
        base = possible.base
        fresh = [piece for piece in possible.pieces if piece not in searched]
        across = [piece for piece in possible.pieces if piece in searched][:1]  # a record may lie across
        found = records.find(target, [*fresh, *across], base.start) if fresh else None
        place = found or place
        searched.update(possible.pieces)
        if (
            place is not None
            and base.stop <= place[0]
            and any(segment.end >= place[1] for segment, _ in possible.pieces)
        ):
            segments, partial = _up_to(possible, place[1])
            return RecoveryPlan(base, target, possible.history, segments, partial, possible)
    oldest = min(usable, key=lambda possible: possible.base.stopped)
    if place is not None:
        raise out_of_range("the target lies before the end of the base backup", oldest, f"{target} at {place[0]}")
    raise out_of_range(
        "the target is not in the archived WAL", oldest, f"no {target} on timeline {oldest.history.timeline}"
    )


def _up_to(possible: Possible, lsn: Lsn) -> tuple[tuple[WalSegment, ...], WalSegment | None]:
    """What is archived up to an address, and the segment behind: the next record may begin there."""
    reached = possible.reach
    count = 1 + sum(segment.begin <= lsn for segment in reached.segments)
    return reached.segments[:count], reached.partial if count > len(reached.segments) else None


def _to_lsn(possible: Possible, lsn: Lsn, records: Records | None) -> tuple[tuple[WalSegment, ...], WalSegment | None]:
    if lsn < possible.base.stop:
        raise out_of_range("the target lies before the end of the base backup", possible, str(lsn))
    tail = possible.pieces[-2:]
    if not tail or tail[-1][0].end < lsn:
        raise beyond(possible, str(lsn))
    if records is not None and tail[0][0].begin < lsn:
        last = records.last(tail)
        if last is None or last < lsn:
            raise beyond(possible, f"{lsn}; the last record that is archived begins at {last}")
    return _up_to(possible, lsn)


def _to_time(
    possible: Possible, when: datetime, last_commit: LastCommit
) -> tuple[tuple[WalSegment, ...], WalSegment | None]:
    base, reached = possible.base, possible.reach
    if when < base.stopped:
        raise out_of_range("the target lies before the end of the base backup", possible, when.isoformat(sep=" "))
    if possible.until is None or when >= possible.until:
        raise beyond(possible, when.isoformat(sep=" "))
    count = _first_after(reached.segments, when, last_commit)
    if count is None:
        return reached.segments, reached.partial
    # PostgreSQL may have to look a little further to see the commit whole: one more where there is one.
    last = count + 2
    return reached.segments[:last], reached.partial if last > len(reached.segments) else None


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


def out_of_range(what: str, possible: Possible, found: str) -> TargetOutOfRange:
    """The refusal of a target, with the range that is possible from a base."""
    return TargetOutOfRange(what, wanted=f"from {possible.words()}", found=found, hint="holdfast wal status")


def beyond(possible: Possible, found: str) -> RestoreError:
    """The refusal of a target behind what is archived: a segment is missing, or it just ends."""
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
    return out_of_range("the target lies beyond the end of the archive", possible, found)
