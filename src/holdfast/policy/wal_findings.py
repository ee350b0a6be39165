"""What is wrong with a WAL archive, from what was seen of server, slot, spool and archive. Pure.

Rules upheld here:
- Each trouble has a name of its own, says what it means for a recovery, and what to do.
- A gap is what only a new base backup can mend; everything else can still catch up.
- What is lost in a disaster now (RPO) is a number of seconds and of bytes, never a colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from holdfast.model.base import BaseBackup
from holdfast.model.wal import Lsn
from holdfast.model.wal_state import Finding, Limits, Name, ServerWal, SpoolState
from holdfast.model.words import seconds, size
from holdfast.policy.recovery import is_recoverable
from holdfast.policy.wal import Reach, Stock, reach
from holdfast.policy.wal_server import server_findings


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that was seen at one instant; None for what could not be, or does not apply."""

    now: datetime
    stock: Stock
    bases: tuple[BaseBackup, ...]
    spool: SpoolState | None
    lsn: Lsn | None = None
    timeline: int | None = None
    server_error: str = ""
    server: ServerWal = field(default_factory=ServerWal)
    limits: Limits = field(default_factory=Limits)
    partial_end: Lsn | None = None
    last_commit: datetime | None = None


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What a disaster now would cost: bytes of WAL, and how long ago what is safe was written. None: not known."""

    archived_to: str | None
    lost_bytes: int | None
    lost_seconds: float | None


LATE = timedelta(minutes=5)
_FULL = 0.10


def exposure(seen: Seen) -> Exposure:
    """The RPO now: what the server wrote behind the last address up to which the archive is whole."""
    reached = newest_reach(seen)
    if reached is None:
        return Exposure(archived_to=None, lost_bytes=None, lost_seconds=None)
    end = max(reached.end, seen.partial_end or Lsn(0)) if reached.missing is None else reached.end
    lost = None if seen.lsn is None else max(0, seen.lsn - end)
    age = None if seen.last_commit is None else (seen.now - seen.last_commit).total_seconds()
    return Exposure(archived_to=str(end), lost_bytes=lost, lost_seconds=0.0 if lost == 0 else age)


def newest_reach(seen: Seen) -> Reach | None:
    """How far the archive leads from the newest base backup on the server's present history; None without one."""
    history = seen.stock.history(seen.timeline) if seen.timeline else None
    if history is None:
        timelines = [timeline for timeline in seen.stock.timelines if seen.stock.history(timeline)]
        history = seen.stock.history(max(timelines)) if timelines else None
    usable = [base for base in seen.bases if history is not None and history.contains(base.timeline, base.stop)]
    if not usable or history is None:
        return None
    return reach(seen.stock, max(usable, key=lambda base: base.stop).start, history)


def findings(seen: Seen) -> list[Finding]:
    """Everything that is wrong, what endangers recovery first."""
    found = [*_of_server(seen), *_of_archive(seen), *server_findings(seen.server, seen.limits)]
    found += spool_findings(seen.spool, seen.now)
    return sorted(found, key=lambda finding: not finding.critical)


def needs_base(found: list[Finding]) -> bool:
    """Whether only a new base backup mends it."""
    return any(finding.name in (Name.NO_BASE, Name.BASE_LOST, Name.GAP, Name.SLOT_LOST) for finding in found)


def _of_server(seen: Seen) -> Iterator[Finding]:
    if seen.server_error:
        yield Finding(
            name=Name.SERVER,
            critical=True,
            text=f"the server does not answer, nothing new can arrive: {seen.server_error}",
            hint="docker ps, or pg_isready",
        )


def _of_archive(seen: Seen) -> Iterator[Finding]:
    reached = newest_reach(seen)
    if reached is None:
        where = f" on timeline {seen.timeline}" if seen.timeline else ""
        yield Finding(
            name=Name.NO_BASE,
            critical=True,
            text=f"no base backup{where} that this WAL could be applied to",
            hint="holdfast backup",
        )
        return
    newest = max(seen.bases, key=lambda base: base.stopped)
    if reached.missing is not None:
        yield Finding(
            name=Name.GAP,
            critical=True,
            text=f"{reached.missing.name} is missing, though later WAL is archived: recovery from the newest base "
            f"backup ends at {reached.end}",
            hint="a new base backup begins a whole stretch again: holdfast backup",
        )
    elif newest.lost:
        yield Finding(
            name=Name.BASE_LOST,
            critical=True,
            text=f"the newest base backup ({newest.point}) is incremental, and one that it builds on is gone",
            hint="take a new one, which will be full: holdfast backup",
        )
    elif not is_recoverable(newest, seen.stock):
        yield Finding(
            name=Name.BASE_INCOMPLETE,
            critical=True,
            text=f"the newest base backup ({newest.point}) waits for its own WAL up to {newest.stop}",
            hint="holdfast wal ship",
        )
    yield from _of_exposure(seen)


def _of_exposure(seen: Seen) -> Iterator[Finding]:
    lost = exposure(seen)
    if lost.lost_bytes and lost.lost_seconds is not None and lost.lost_seconds > LATE.total_seconds():
        yield Finding(
            name=Name.BEHIND,
            critical=True,
            text=f"the archive is {size(lost.lost_bytes)} and {seconds(lost.lost_seconds)} behind the server",
            hint="is `holdfast wal run` at work, and the store reachable?",
        )


def spool_findings(spool: SpoolState | None, now: datetime) -> list[Finding]:
    """What is wrong with the spool alone: to be seen while the store is away, too."""
    return [] if spool is None else list(_of_spool(spool, now))


def _of_spool(spool: SpoolState, now: datetime) -> Iterator[Finding]:
    if spool.differs:
        yield Finding(
            name=Name.CONFLICT,
            critical=True,
            text=f"{spool.differs} in the spool is archived with other content: two servers have one system "
            "identifier, or this one was set back without a new timeline; nothing behind it is shipped",
            hint="stop the wrong server; the right one goes on with a new timeline (a promotion, or a recovery), a new "
            "spool and a new base backup",
        )
    if spool.total and spool.free < spool.total * _FULL:
        yield Finding(
            name=Name.SPOOL_FULL,
            critical=True,
            text=f"the spool's disk has {size(spool.free)} of {size(spool.total)} left, {size(spool.bytes)} wait in it",
            hint="nothing is dropped: make room, or bring the store back so that it empties",
        )
    if spool.oldest is not None and now - spool.oldest > LATE:
        waited = seconds((now - spool.oldest).total_seconds())
        yield Finding(
            name=Name.SPOOL_WAITING,
            critical=False,
            text=f"{spool.files} files ({size(spool.bytes)}) wait in the spool, the oldest for {waited}",
            hint="holdfast wal ship says what holds them up",
        )
