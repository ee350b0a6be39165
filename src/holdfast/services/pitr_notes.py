"""What an operator should know of a recovery's plan before it is carried out: gaps, other branches, other clusters."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.model.base import BaseBackup, BaseFacts, RecoveryTarget, TargetKind
from holdfast.policy.recovery_targets import LastCommit, RecoveryPlan
from holdfast.policy.wal import Stock, branches


def notes_of(plan: RecoveryPlan, stock: Stock, last_commit: LastCommit) -> tuple[str, ...]:
    """A line for a gap that ends the way to the latest, and one for each branch that goes on elsewhere.

    Raises: as `last_commit`.
    """
    notes = []
    missing = plan.possible.reach.missing
    if missing is not None and plan.target.kind is TargetKind.LATEST:
        notes.append(f"{missing.name} is missing: what was archived behind it cannot be reached from this base backup")
    for last in branches(stock, plan.history):
        when = last_commit(last, False) if stock.has(last) else None
        until = f", last commit {when.isoformat(sep=' ')}" if when else ""
        notes.append(f"timeline {last.timeline} goes on elsewhere, to {last.name}{until}: --timeline {last.timeline}")
    return tuple(notes)


def other_clusters(bases: Sequence[BaseBackup]) -> tuple[str, ...]:
    """A line for each cluster that had the same name before, newest first."""
    newest = {base.system: base for base in sorted(bases, key=lambda base: base.stopped)}
    return tuple(
        f"an earlier cluster of this name was backed up until {base.stopped.isoformat(sep=' ')}: --system {system}"
        for system, base in sorted(newest.items(), key=lambda item: item[1].stopped, reverse=True)
    )


def elsewhere(found: Sequence[tuple[BaseBackup, BaseFacts]], target: RecoveryTarget) -> str | None:
    """Where else to look for a target that was refused: the newest earlier cluster that it may be of."""
    bases = [base for base, _ in found if target.time is None or base.stopped <= target.time]
    newest = max(bases, key=lambda base: base.stopped, default=None)
    return f"an earlier cluster of this name may have it: --system {newest.system}" if newest else None
