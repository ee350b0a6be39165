"""Retention at work: plan what is forgotten, with reasons, then forget it. Data goes later, with prune.

Rules upheld here:
- The plan is made anew under the exclusive lock, and nothing is forgotten that the new plan keeps.
- What is told of a plan is what it does not know: proofs that cannot be read protect nothing.
- Nothing is forgotten while a snapshot cannot be read: it might be the newest, or the only whole one.
- Only restore points of the named stack are looked at; what restic made itself is never touched. Where several hosts
  have a stack of the name, the rules hold for each by itself.
- Directories that were named on the command line share a stack, and nothing else: those of one host and one set of
  directories are decided by themselves, as restic does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from holdfast.errors import CorruptObject
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.snapshot import PATHS, RestorePoint, restore_points
from holdfast.policy.incremental import depending
from holdfast.policy.lineage import host_of, lineages, newest_of_hosts
from holdfast.policy.retention import Decision, Rules, decide
from holdfast.repository.forgotten import forget_snapshot
from holdfast.repository.repository import Repository
from holdfast.services.bases import bases_of
from holdfast.services.proofs import proofs
from holdfast.services.wal_expiry import needed_points


class RetentionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What stays and what goes of one stack, newest first, each with its reasons."""

    stack: str
    rules: Rules
    decisions: tuple[Decision, ...]
    notes: tuple[str, ...] = ()

    @property
    def keep(self) -> tuple[Decision, ...]:
        """What stays."""
        return tuple(decision for decision in self.decisions if decision.keep)

    @property
    def remove(self) -> tuple[Decision, ...]:
        """What goes."""
        return tuple(decision for decision in self.decisions if not decision.keep)


class ForgetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was forgotten."""

    stack: str
    points: tuple[PointId, ...]
    snapshots: tuple[SnapshotId, ...]


def plan_retention(
    repository: Repository, stack: str, rules: Rules, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> RetentionPlan:
    """What the rules keep of a stack's restore points. Raises: CorruptObject when a snapshot cannot be read."""
    found = proofs(repository)
    proven = [proof.point for proof in found.proofs if proof.stack == stack and proof.proven]
    points, needed = _points(repository, stack), {}
    snapshots = [snapshot for point in points for snapshot in point.snapshots]
    if rules.recovery_window is not None:
        needed = needed_points(repository, snapshots, rules.recovery_window, now=now())
    chains = depending([base for base, _ in bases_of(repository, snapshots, strict=True)])
    needed = {**newest_of_hosts(points, now()), **needed}
    apart = [] if stack == PATHS else lineages(points)
    decisions = [
        decision
        for alike in (_alike(points) if stack == PATHS else apart)
        for decision in decide(alike, rules, now=now(), proven=proven, needed=needed, builds_on=chains)
    ]
    decisions.sort(key=lambda decision: (decision.time, decision.point), reverse=True)
    notes = [*map(str, found.damaged), *_shared(stack, apart)]
    return RetentionPlan(stack=stack, rules=rules, decisions=tuple(decisions), notes=tuple(notes))


def _shared(stack: str, apart: Sequence[Sequence[RestorePoint]]) -> Iterator[str]:
    if len(apart) > 1:
        hosts = ", ".join(host_of(lineage[-1]) for lineage in apart)
        yield f"several hosts back up a stack named {stack}: {hosts}; the rules hold for each of them by itself"


def forget(
    repository: Repository, plan: RetentionPlan, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> ForgetReport:
    """Carry out a plan. Raises: RepositoryLocked, CorruptObject, the store's errors."""
    planned = {decision.point for decision in plan.remove}
    if not planned:
        return ForgetReport(stack=plan.stack, points=(), snapshots=())
    with repository.lock(exclusive=True) as lock:
        still = {decision.point for decision in plan_retention(repository, plan.stack, plan.rules, now=now).remove}
        doomed = [point for point in _points(repository, plan.stack) if point.id in planned & still]
        forgotten = []
        for point in doomed:
            for snapshot in point.snapshots:
                lock.ensure_held()
                forget_snapshot(repository, snapshot.id, now().timestamp())
                forgotten.append(snapshot.id)
    return ForgetReport(stack=plan.stack, points=tuple(point.id for point in doomed), snapshots=tuple(forgotten))


def snapshots_of(repository: Repository, plan: RetentionPlan) -> frozenset[SnapshotId]:
    """The snapshots that carrying out a plan would delete."""
    gone = {decision.point for decision in plan.remove}
    points = _points(repository, plan.stack)
    return frozenset(snapshot.id for point in points if point.id in gone for snapshot in point.snapshots)


def _alike(points: Sequence[RestorePoint]) -> Iterable[list[RestorePoint]]:
    """The points of one host and one set of directories; one that is not whole is with those that it was to be like."""
    groups: dict[frozenset[tuple[str, str]], list[RestorePoint]] = {}
    for point in sorted(points, key=lambda point: not point.complete):
        key = frozenset((snapshot.hostname, snapshot.source) for snapshot in point.snapshots)
        meant = (known for known in groups if known >= key and len(known) == point.snapshots[0].parts)
        groups.setdefault(next(meant, key), []).append(point)
    return groups.values()


def _points(repository: Repository, stack: str) -> list[RestorePoint]:
    listed = repository.snapshots()
    if listed.damaged:
        raise CorruptObject(
            "nothing is forgotten while a snapshot cannot be read",
            which=listed.damaged[0].which,
            found=f"{len(listed.damaged)} damaged snapshots",
            hint="holdfast verify; remove a snapshot that is lost with `restic forget ID`",
        )
    return [point for point in restore_points(listed.snapshots) if stack and point.stack == stack]
