"""Which base backups and which WAL stay so that every instant of a window can be recovered to, and why. Pure.

Rules upheld here:
- By address and timeline, never by a file's age.
- Every base backup that is kept keeps its own WAL, from its start to its stop: it can always be recovered to its end.
- Of each history the newest base backup that ended before the window began stays with everything after it: nothing
  inside the window becomes unreachable. Without a window, everything from the oldest kept base backup on stays.
- A base backup that was forgotten and may come back keeps what it would need then. It takes nothing from the others:
  what goes is what goes with it and without it.
- Histories always stay. Where no base backup is left, nothing goes: there is nothing to judge by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from holdfast.model.base import BaseBackup
from holdfast.model.ids import SnapshotId
from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import WalKind, WalName
from holdfast.policy.recovery import is_recoverable, needed_by
from holdfast.policy.retention import Duration
from holdfast.policy.wal import Stock


class WalDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A run of files of one timeline: kept or not, and why. `names` in order."""

    timeline: int
    names: tuple[str, ...]
    keep: bool
    reason: str


def bases_for_window(
    bases: Sequence[BaseBackup], stock: Stock, window: Duration, *, now: datetime
) -> dict[SnapshotId, str]:
    """The base backups that recovery to any instant of the window needs, with the reason."""
    begin = window.before(now)
    needed: dict[SnapshotId, str] = {}
    for base in bases:
        if base.stopped > begin:
            needed[base.snapshot] = "inside the recovery window"
    for history in _histories(bases, stock):
        before = [
            base
            for base in bases
            if base.stopped <= begin and history.contains(base.timeline, base.stop) and is_recoverable(base, stock)
        ]
        if before:
            newest = max(before, key=lambda base: (base.stopped, base.stop))
            needed.setdefault(newest.snapshot, f"begins the recovery window on timeline {history.timeline}")
    return needed


def expire(
    names: Iterable[WalName],
    stock: Stock,
    kept: Sequence[BaseBackup],
    window: Duration | None,
    *,
    now: datetime,
    forgotten: Sequence[BaseBackup] = (),
) -> list[WalDecision]:
    """What becomes of each file of an archive, in runs of the same reason, in order of names.

    Args:
        names: every file that is archived.
        stock: the same, understood.
        kept: the base backups that stay.
        window: how far back every instant must be reachable.
        now: the present.
        forgotten: the base backups that are forgotten, and may come back.
    """
    own: dict[tuple[int, int], str] = {}
    for base in (*forgotten, *kept):
        word = "base backup" if base in kept else "forgotten base backup"
        for segment in needed_by(base):
            own[segment.timeline, segment.number] = f"{word} {base.point} needs it"
    floor, reason = _floor(kept, stock, window, now)
    if forgotten and floor is not None:
        lower, why = _floor([*kept, *forgotten], stock, window, now)
        if lower is None or lower < floor:
            floor, reason = lower, f"{why}, as long as what was forgotten can come back"
    decisions: list[WalDecision] = []
    for name in sorted(names, key=lambda name: name.text):
        keep, why = _judge(name, stock.segment_size, own, floor, reason)
        last = decisions[-1] if decisions else None
        if last is not None and (last.timeline, last.keep, last.reason) == (name.timeline, keep, why):
            decisions[-1] = msgspec.structs.replace(last, names=(*last.names, name.text))
        else:
            decisions.append(WalDecision(timeline=name.timeline, names=(name.text,), keep=keep, reason=why))
    return decisions


def _floor(kept: Sequence[BaseBackup], stock: Stock, window: Duration | None, now: datetime) -> tuple[int | None, str]:
    """The first segment number from which on everything stays, on every timeline; None for from the beginning."""
    if not kept:
        return None, "no base backup is left to judge by"
    if window is None:
        oldest = min(kept, key=lambda base: base.start)
        return oldest.start // stock.segment_size, f"after the oldest base backup that is kept, {oldest.point}"
    needed = bases_for_window(kept, stock, window, now=now)
    if not needed:  # only base backups without their WAL: it may still arrive
        return None, "no base backup that is kept can be recovered yet"
    first = min((base for base in kept if base.snapshot in needed), key=lambda base: base.start)
    return first.start // stock.segment_size, f"inside the recovery window, which begins with base backup {first.point}"


def _judge(
    name: WalName, size: int, own: dict[tuple[int, int], str], floor: int | None, reason: str
) -> tuple[bool, str]:
    if name.kind is WalKind.HISTORY:
        return True, "histories always stay"
    segment = name.segment(size)
    if floor is None or segment.number >= floor:
        return True, reason
    found = own.get((segment.timeline, segment.number))
    if found is not None:
        return True, found
    return False, "before everything that can be recovered"


def _histories(bases: Sequence[BaseBackup], stock: Stock) -> list[TimelineHistory]:
    found = {timeline: stock.history(timeline) for timeline in stock.timelines}
    for base in bases:
        if found.get(base.timeline) is None:
            found[base.timeline] = TimelineHistory(base.timeline)
    return [history for history in found.values() if history is not None]


def range_of(decision: WalDecision) -> str:
    """The run in words: its first and last name, and how many."""
    first, last = decision.names[0], decision.names[-1]
    return first if first == last else f"{first} to {last} ({len(decision.names)})"
