"""Status: per stack, the newest restore point, how fresh it is, and what was last proven."""

from __future__ import annotations

from datetime import datetime

import msgspec

from holdfast.model.ids import PointId
from holdfast.model.proof import Proof
from holdfast.model.snapshot import RestorePoint, restore_points
from holdfast.repository.repository import Repository
from holdfast.services.proofs import proofs, verifications
from holdfast.services.report import MonitorReport, last_report

STALE = 3600.0
"""Seconds: the monitor looks every few minutes."""


class StackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One stack: its restore points, and the proofs about it. `proof` is the newest drill, passed or not."""

    stack: str
    points: int
    incomplete: int
    newest: PointId | None
    newest_time: datetime | None
    age_seconds: float | None
    proof: Proof | None
    last_proven: PointId | None
    last_proven_at: datetime | None


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """A repository at one moment. `damaged` are snapshots and proofs that cannot be read.

    `verified` is the last verification without damage; `seen` what this host's monitor saw of this repository last.
    """

    repository: str
    location: str
    now: datetime
    stacks: tuple[StackStatus, ...]
    damaged: tuple[str, ...]
    verified: datetime | None = None
    seen: MonitorReport | None = None

    @property
    def outdated(self) -> bool:
        """Whether what the monitor saw is too old to say anything about now."""
        return self.seen is not None and (self.now - self.seen.time).total_seconds() > STALE


def status(repository: Repository, *, now: datetime) -> StatusReport:
    """What is backed up and what was proven. Raises: the store's errors."""
    listed = repository.snapshots()
    points = restore_points(listed.snapshots)
    found = proofs(repository)
    drills = found.proofs
    good = [record.finished for record in verifications(repository) if not record.problems]
    seen = last_report()
    stacks = sorted({point.stack for point in points} | {proof.stack for proof in drills})
    return StatusReport(
        repository=repository.id,
        location=repository.location,
        now=now,
        stacks=tuple(
            stack_status(
                stack,
                [point for point in points if point.stack == stack],
                [proof for proof in drills if proof.stack == stack],
                now,
            )
            for stack in stacks
        ),
        damaged=tuple(map(str, (*listed.damaged, *found.damaged, *found.missing))),
        verified=good[-1] if good else None,
        seen=seen if seen is not None and seen.repository in ("", repository.id) else None,
    )


def stack_status(stack: str, points: list[RestorePoint], drills: list[Proof], now: datetime) -> StackStatus:
    """The status of one stack from its restore points and proofs, both oldest first."""
    whole = [point for point in points if point.complete]
    newest = whole[-1] if whole else None
    passed = [proof for proof in drills if proof.proven]
    return StackStatus(
        stack=stack,
        points=len(points),
        incomplete=len(points) - len(whole),
        newest=newest.id if newest else None,
        newest_time=newest.time if newest else None,
        age_seconds=(now - newest.time).total_seconds() if newest else None,
        proof=drills[-1] if drills else None,
        last_proven=passed[-1].point if passed else None,
        last_proven_at=passed[-1].finished if passed else None,
    )
