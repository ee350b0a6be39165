"""Planning a recovery from a repository: which cluster, base backup and WAL, and what an operator should know of it.

Rules upheld here:
- The plan is complete before anything is written: base, timelines, every segment by name; what cannot be reached is
  refused with the range that can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from holdfast.errors import SnapshotNotFound, TargetOutOfRange, WalMissing
from holdfast.model.base import BaseBackup, BaseFacts, RecoveryTarget
from holdfast.model.ids import SnapshotId
from holdfast.model.snapshot import Snapshot
from holdfast.policy.recovery import plan_recovery
from holdfast.policy.recovery_targets import RecoveryPlan
from holdfast.policy.wal import Stock
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.bases import bases_of, find_base
from holdfast.services.pitr_notes import elsewhere, notes_of, other_clusters
from holdfast.services.wal_reading import ArchivedRecords, commit_reader


class PitrPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery would do: the snapshot (and those below an incremental one), the WAL, and where it ends."""

    stack: str
    source: str
    snapshot: Snapshot
    facts: BaseFacts
    plan: RecoveryPlan
    stock: Stock
    action: str = "promote"
    below: tuple[Snapshot, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The plan, for people."""
        plan, base = self.plan, self.plan.base
        names = [segment.name for segment in plan.segments]
        if plan.partial is not None:
            names.append(f"{plan.partial.name}.partial")
        wal = f"{len(names)} segments, {names[0]} to {names[-1]}" if len(names) > 1 else ", ".join(names) or "none"
        timelines = " -> ".join(str(s.timeline) for s in plan.history.stretches if s.end is None or s.end > base.start)
        return [
            f"base backup   {base.point} ({base.snapshot[:8]}), ended {base.stopped.isoformat(sep=' ')} at {base.stop}",
            *(f"combined with {below.point} ({below.short_id})" for below in reversed(self.below)),
            f"target        {plan.target}",
            f"timeline      {timelines}",
            f"WAL           {wal}",
            f"possible      {plan.possible.words()}",
            f"at the target {self.action}",
            *(f"note          {note}" for note in self.notes),
        ]


def plan_pitr(
    repository: Repository,
    stack: str,
    source: str,
    target: RecoveryTarget,
    *,
    action: str = "promote",
    system: str | None = None,
) -> PitrPlan:
    """The recovery of a stack's source to a target, of its present cluster unless `system` names an earlier one.

    Raises: SnapshotNotFound without a base backup; TargetOutOfRange, WalMissing; CorruptObject, the store's errors.
    """
    label = source if ":" in source else f"postgres:{source}"
    snapshots = [s for s in repository.snapshots().snapshots if s.stack == stack and s.source == label]
    found = bases_of(repository, snapshots)
    known = list(dict.fromkeys(base.system for base, _ in reversed(found)))  # a cluster that was made anew comes first
    if not found or (system is not None and system not in known):
        raise SnapshotNotFound(
            "there is no base backup of this source",
            which=f"{label} of {stack}" + (f", cluster {system}" if system else ""),
            wanted="a snapshot taken with method: base",
            found=f"{len(found)} base backups, of clusters {', '.join(known)}"
            if found
            else f"{len(snapshots)} other snapshots of it",
            hint="holdfast list",
        )
    wanted = system or known[0]
    try:
        planned = _plan(repository, stack, label, snapshots, found, wanted, target, action)
    except (TargetOutOfRange, WalMissing) as error:
        error.hint = elsewhere([pair for pair in found if pair[0].system != wanted], target) or error.hint
        raise
    others = () if system else other_clusters([base for base, _ in found if base.system != wanted])
    return msgspec.structs.replace(planned, notes=(*planned.notes, *others))


def _plan(
    repository: Repository,
    stack: str,
    label: str,
    snapshots: list[Snapshot],
    found: list[tuple[BaseBackup, BaseFacts]],
    system: str,
    target: RecoveryTarget,
    action: str,
) -> PitrPlan:
    pairs = {base.snapshot: (base, facts) for base, facts in found if base.system == system}
    bases = [base for base, _ in pairs.values()]
    archive = WalArchive(repository.store, repository.key, system)
    stock = archive.stock(bases[-1].segment_size)
    plan = plan_recovery(bases, stock, target, commit_reader(archive), ArchivedRecords(archive))
    planned = _complete(stack, label, snapshots, pairs, plan, stock, action)
    return msgspec.structs.replace(planned, notes=notes_of(plan, stock, commit_reader(archive)))


def plan_for(repository: Repository, snapshot: Snapshot, facts: BaseFacts, target: RecoveryTarget) -> PitrPlan:
    """The recovery of one given base backup to a target: for drills. Raises: as `plan_pitr`."""
    base = find_base(repository, snapshot, facts)
    archive = WalArchive(repository.store, repository.key, base.system)
    stock = archive.stock(base.segment_size)
    plan = plan_recovery([base], stock, target, commit_reader(archive), ArchivedRecords(archive))
    snapshots = [snapshot] if not base.below else list(repository.snapshots().snapshots)
    return _complete(
        snapshot.stack or "", snapshot.source, snapshots, {base.snapshot: (base, facts)}, plan, stock, "promote"
    )


def parse_time(text: str) -> datetime:
    """A time as an operator writes it; without an offset it is local. Raises: ValueError."""
    return datetime.fromisoformat(text.strip()).astimezone()


def _complete(
    stack: str,
    label: str,
    snapshots: list[Snapshot],
    pairs: Mapping[SnapshotId, tuple[BaseBackup, BaseFacts]],
    plan: RecoveryPlan,
    stock: Stock,
    action: str,
) -> PitrPlan:
    snapshot = next(snapshot for snapshot in snapshots if snapshot.id == plan.base.snapshot)
    for number in plan.timelines:
        if number not in stock.histories:
            raise WalMissing("the history of a timeline is missing", which=f"{number:08X}.history")
    by_id = {snapshot.id: snapshot for snapshot in snapshots}
    return PitrPlan(
        stack=stack,
        source=label,
        snapshot=snapshot,
        facts=pairs[plan.base.snapshot][1],
        plan=plan,
        stock=stock,
        action=action,
        below=tuple(by_id[below] for below in plan.base.below),
    )
