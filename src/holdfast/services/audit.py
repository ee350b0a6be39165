"""The auditor's report: what was backed up, how often, how long it is kept, verified, restored and proven.

Rules upheld here:
- Everything in it is read from the repository: snapshots, proofs, records of verifications. The configuration adds only
  what was promised (rules of retention, objectives), and the report is whole without it.
- What cannot be read, or is missing from the chain of proofs, stands in the report by name.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from holdfast import __version__
from holdfast.model.ids import PointId
from holdfast.model.proof import Proof
from holdfast.model.snapshot import RestorePoint, restore_points
from holdfast.repository.repository import Repository
from holdfast.services.proofs import ProofRecord, Proofs, Verification, proofs, verifications

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.config.stack import Stack


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of a stack, in words; "" where it says nothing."""

    schedule: str = ""
    drill: str = ""
    retention: str = ""
    rto_seconds: float | None = None


class PointAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One restore point that is there now, and the newest proof about it, by its digest."""

    point: PointId
    time: datetime
    sources: int
    complete: bool
    proven: bool
    proof: str | None


class StackAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One stack. Seconds between whole restore points: the usual (median) and the longest, up to now included."""

    stack: str
    promise: Promise
    points: tuple[PointAudit, ...]
    sources: tuple[str, ...]
    oldest: datetime | None
    newest: datetime | None
    usual_gap: float | None
    longest_gap: float | None
    drills: tuple[ProofRecord, ...]
    last_proven: datetime | None

    @property
    def passed(self) -> int:
        """How many drills passed."""
        return sum(record.proof.passed for record in self.drills)

    @property
    def failed(self) -> int:
        """How many drills failed."""
        return len(self.drills) - self.passed


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """A repository at one moment, for somebody who was not there. `problems` are of the chain of proofs."""

    repository: str
    location: str
    generated: datetime
    holdfast: str
    stacks: tuple[StackAudit, ...]
    verifications: tuple[Verification, ...]
    heads: tuple[str, ...]
    problems: tuple[str, ...]
    damaged: tuple[str, ...]


def audit(
    repository: Repository,
    *,
    now: datetime,
    config: Config | None = None,
    witnesses: Mapping[str, str] | None = None,
) -> AuditReport:
    """Read everything that the report says. Raises: the store's errors."""
    listed = repository.snapshots()
    found = proofs(repository, witnesses=witnesses)
    points = restore_points(listed.snapshots)
    declared = config.stacks if config is not None else {}
    names = sorted({p.stack for p in points} | {r.proof.stack for r in found.records} | set(declared))
    return AuditReport(
        repository=repository.id,
        location=repository.location,
        generated=now,
        holdfast=__version__,
        stacks=tuple(
            _stack(name, [p for p in points if p.stack == name], found, _promise(declared.get(name)), now)
            for name in names
        ),
        verifications=verifications(repository),
        heads=found.heads,
        problems=found.problems,
        damaged=tuple(map(str, listed.damaged)),
    )


def _stack(name: str, points: Sequence[RestorePoint], found: Proofs, promise: Promise, now: datetime) -> StackAudit:
    drills = tuple(record for record in found.records if record.proof.stack == name)
    whole = [point.time for point in points if point.complete]
    gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise([*whole, now])]
    passed = [record.proof.finished for record in drills if record.proof.proven]
    return StackAudit(
        stack=name,
        promise=promise,
        points=tuple(_point(point, drills) for point in points),
        sources=tuple(sorted({snapshot.source for point in points for snapshot in point.snapshots})),
        oldest=whole[0] if whole else None,
        newest=whole[-1] if whole else None,
        usual_gap=statistics.median(gaps[:-1]) if len(gaps) > 1 else None,
        longest_gap=max(gaps) if gaps else None,
        drills=drills,
        last_proven=max(passed) if passed else None,
    )


def _point(point: RestorePoint, drills: Sequence[ProofRecord]) -> PointAudit:
    about = [record for record in drills if record.proof.point == point.id]
    return PointAudit(
        point=point.id,
        time=point.time,
        sources=len(point.snapshots),
        complete=point.complete,
        proven=bool(about) and about[-1].proof.proven,
        proof=about[-1].digest if about else None,
    )


def _promise(stack: Stack | None) -> Promise:
    if stack is None:
        return Promise()
    kept = stack.retention.model_dump(exclude_none=True, exclude={"schedule"}) if stack.retention else {}
    return Promise(
        schedule=f"{stack.schedule.cron} ({stack.schedule.timezone})" if stack.schedule else "by hand",
        drill=f"{stack.drill.cron} ({stack.drill.timezone})" if stack.drill else "by hand",
        retention=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in kept.items()) or "everything",
    )


def series(drills: Sequence[ProofRecord], field: str) -> list[tuple[datetime, float, bool]]:
    """RTO or RPO over time, for a plot: when, seconds, and whether the drill passed."""
    chosen: list[tuple[datetime, float, bool]] = []
    for record in drills:
        proof: Proof = record.proof
        chosen.append((proof.finished, float(getattr(proof, field)), proof.passed))
    return chosen
