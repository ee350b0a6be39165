"""Incremental base backups: whether one can be taken, on which it builds, and which belong together. Pure.

Rules upheld here:
- An incremental backup is taken only where everything that it needs is known to be there; else a full one, and the
  reason is said.
- A base backup is known to the ones above it as PostgreSQL knows it: by cluster, timeline and start. Its snapshot may
  have been copied, or rewritten by restic.
- A chain of which one is gone is lost from there on: nothing can be made of a part.

Source: PostgreSQL manual, "Making an Incremental Backup", pg_combinebackup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from holdfast.model.base import BaseBackup, BaseFacts
from holdfast.model.ids import PointId
from holdfast.model.wal import Lsn

FIRST_VERSION = 170_000


@dataclass(frozen=True, slots=True)
class Summarized:
    """What a server says of its WAL summaries: whether it makes them, and where its oldest one begins."""

    on: bool
    begin: Lsn | None


@dataclass(frozen=True, slots=True)
class IncrementalPlan:
    """On which base backup the next one builds; None for a full one, then `reason` says why."""

    base: BaseBackup | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Present:
    """The server now: `version` is its `server_version_num`."""

    version: int
    system: str
    timeline: int
    lsn: Lsn
    checksums: bool
    summaries: Summarized


def plan_incremental(
    present: Present, earlier: Sequence[tuple[BaseBackup, BaseFacts]], longest: int
) -> IncrementalPlan:
    """What the next base backup builds on.

    Args:
        present: the server.
        earlier: the base backups of the source, oldest first, with their chains.
        longest: how many incremental ones may follow a full one.
    """
    if present.version < FIRST_VERSION:
        return IncrementalPlan(None, f"PostgreSQL {present.version // 10_000} has no incremental backups, 17 does")
    if not present.summaries.on:
        return IncrementalPlan(None, "summarize_wal is off: ALTER SYSTEM SET summarize_wal = on")
    if not earlier:
        return IncrementalPlan(None, "there is none before it")
    base, facts = earlier[-1]
    why = _why_not_on(base, facts, present) or _too_long(base, longest)
    return IncrementalPlan(None, why) if why else IncrementalPlan(base)


def _why_not_on(base: BaseBackup, facts: BaseFacts, present: Present) -> str:
    """Why the next backup cannot build on this one; "" when it can."""
    oldest = present.summaries.begin
    doubts = {
        f"the last one, {base.point}, is of another cluster": base.system != present.system,
        f"the last one, {base.point}, was not taken over the stream": facts.how != "stream",
        f"the last one, {base.point}, builds on one that is gone": base.lost,
        f"the server is on timeline {present.timeline}, the last one, {base.point}, is of a later one": (
            base.timeline > present.timeline
        ),
        f"the server was set back behind the last one, {base.point}": base.start > present.lsn,
        "page checksums were switched on or off since the last one": facts.checksums != present.checksums,
        f"the server's WAL summaries begin at {oldest or 'no address yet'}, the last one started at {base.start}": (
            oldest is None or oldest > base.start
        ),
    }
    return next((text for text, applies in doubts.items() if applies), "")


def _too_long(base: BaseBackup, longest: int) -> str:
    length = len(base.below)
    return f"{length} incremental ones follow the last full one already" if length >= longest else ""


def with_chains(bases: Sequence[BaseBackup]) -> list[BaseBackup]:
    """The same base backups, each with those that it is combined with."""
    known = {(base.system, base.timeline, base.start): base for base in bases}
    return [_chained(base, known) for base in bases]


def _chained(base: BaseBackup, known: Mapping[tuple[str, int, Lsn], BaseBackup]) -> BaseBackup:
    below: list[BaseBackup] = []
    at = base
    while at.builds_on is not None:
        found = known.get((base.system, *at.builds_on))
        if found is None or found.start >= at.start:
            return replace(base, lost=True)
        below.insert(0, found)
        at = found
    return replace(base, below=tuple(one.snapshot for one in below))


def depending(bases: Sequence[BaseBackup]) -> dict[PointId, tuple[PointId, ...]]:
    """For each restore point with an incremental base backup the points that hold what it builds on."""
    points = {base.snapshot: base.point for base in bases}
    found: dict[PointId, tuple[PointId, ...]] = {}
    for base in bases:
        if base.below:
            found[base.point] = (*found.get(base.point, ()), *(points[snapshot] for snapshot in base.below))
    return found
