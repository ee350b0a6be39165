"""Prune: delete the data that no snapshot refers to any more — not at once, and without keeping anybody waiting.

Rules upheld here:
- Measuring, marking and copying take long and happen under a shared lock: backups go on beside them.
- Only what is due is deleted, under an exclusive lock that is short: then what was added since is taken in, and a pack
  that is used again stays. Where there is nothing due, no exclusive lock is taken.
- What is unused is marked first and goes after the grace period (`policy.prune`); until then a forgotten snapshot can
  come back (`services.undo`).
- Measuring refuses when anything that could refer to data cannot be read.
- A dry run writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from holdfast.model.ids import SnapshotId
from holdfast.policy.prune import Action, Decision, Mark, PrunePlan, begins_anew, plan_prune
from holdfast.repository.forgotten import Forgotten, drop_forgotten, forgotten_snapshots
from holdfast.repository.marks import Marks, load_marks, new_marks, save_marks, still_dead
from holdfast.repository.repository import Repository
from holdfast.repository.rewrite import copy_needed, removable, remove_packs
from holdfast.repository.usage import Usage, catch_up, measure_usage

GRACE_HOURS = 24.0
"""How long unused data stays when nothing else is said; how old a pack must be that no index names."""
MAX_UNUSED = 0.05


class PruneReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a prune did, or with `dry_run` would do. Bytes are those on the store.

    `packs_fresh` are packs without an index that may be an upload in flight. `decisions` are those for packs with
    which something happens; `next_due` is when the first of the marked ones can go; `undoable` counts the forgotten
    snapshots that can come back. `exclusive_seconds` is how long nobody else could work.
    """

    dry_run: bool
    packs_before: int
    packs_deleted: int
    packs_repacked: int
    packs_orphaned: int
    packs_fresh: int
    packs_marked: int
    bytes_before: int
    bytes_unused: int
    bytes_freed: int
    bytes_marked: int
    bytes_rewritten: int
    undoable: int
    next_due: datetime | None
    decisions: tuple[Decision, ...]
    exclusive_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Limits:
    """What the caller wants. Seconds; `now` is in Unix seconds."""

    grace: float
    orphan_age: float
    max_unused: float
    now: float


@dataclass(frozen=True, slots=True)
class _Found:
    """What was measured, and decided on it. `wanted` are the marks that there should be now."""

    usage: Usage
    plan: PrunePlan
    marks: Marks
    wanted: dict[str, Mark]
    held: list[Forgotten]
    expired: list[Forgotten]

    def of(self, action: Action) -> dict[str, Mark]:
        """The marks of the packs for one action. Packs in no index have none."""
        packs = {decision.pack for decision in self.plan.of(action)}
        return {pack: mark for pack, mark in self.wanted.items() if pack in packs}

    @property
    def orphans(self) -> set[str]:
        """Packs of broken uploads that can go."""
        return {decision.pack for decision in self.plan.of(Action.DELETE)} - self.wanted.keys()


@dataclass(frozen=True, slots=True)
class _Done:
    """What was written and removed: bytes, packs by kind, seconds under the exclusive lock."""

    rewritten: int = 0
    removed: frozenset[str] = frozenset()
    exclusive: float = 0.0


def prune(
    repository: Repository,
    *,
    dry_run: bool = False,
    without: Collection[SnapshotId] = (),
    max_unused: float = MAX_UNUSED,
    grace_hours: float = GRACE_HOURS,
    orphan_hours: float = GRACE_HOURS,
    now: Callable[[], float] = time.time,
) -> PruneReport:
    """Mark what nothing refers to, and delete what was marked long enough.

    Args:
        repository: an open repository.
        dry_run: only say what would be done.
        without: for a dry run: snapshots to be taken as forgotten already.
        max_unused: the share of all stored bytes that may stay unused inside packs that are partly used.
        grace_hours: how long data stays after it was marked; 0 deletes at once, also what was forgotten just now.
        orphan_hours: how old a pack must be that no index names.
        now: Unix seconds.

    Raises: RepositoryLocked, CorruptObject (nothing was deleted then), the store's errors.
    """
    if without and not dry_run:
        raise ValueError("snapshots are left out of a dry run only: forget them first")
    started = time.monotonic()
    limits = _Limits(grace_hours * 3600, orphan_hours * 3600, max_unused, now())
    with repository.lock():
        found = _measure(repository, limits, without)
        rewritten = 0
        if not dry_run:
            save_marks(repository, found.marks, found.wanted.values())
            rewritten = copy_needed(found.usage, found.of(Action.REWRITE))
    done = _Done()
    if not dry_run and (found.expired or found.orphans or found.of(Action.DELETE) or found.of(Action.REWRITE)):
        found, done = _delete(repository, found, limits, rewritten)
    repository.refresh()
    return _report(found, done, dry_run=dry_run, seconds=time.monotonic() - started)


def _measure(repository: Repository, limits: _Limits, without: Collection[SnapshotId] = ()) -> _Found:
    """Find out what is used, and decide. The caller holds a lock."""
    held, expired = _forgotten(repository, limits)
    marks = load_marks(repository)
    usage = measure_usage(repository, without=without, hold=[each.snapshot.tree for each in held], marked=marks.by_pack)
    # Without a grace period everything unused is due, whenever it was seen first.
    still = still_dead(usage, marks.by_pack) if limits.grace > 0 else {}
    plan = plan_prune(
        usage.facts(),
        still,
        grace=limits.grace,
        orphan_age=limits.orphan_age,
        max_unused=limits.max_unused,
        now=limits.now,
    )
    acting = (Action.MARK, Action.DELETE, Action.REWRITE)
    chosen = {decision.pack for action in acting for decision in plan.of(action)}
    kept = {
        pack: mark
        for pack, mark in still.items()
        if pack in chosen and not begins_anew(mark, used=usage.packs[pack].used)
    }
    wanted = {**kept, **new_marks(usage, chosen - kept.keys(), limits.now)}
    return _Found(usage, plan, marks, wanted, held, expired)


def _forgotten(repository: Repository, limits: _Limits) -> tuple[list[Forgotten], list[Forgotten]]:
    """The forgotten snapshots that can still come back, and those whose time is over."""
    found = list(forgotten_snapshots(repository))
    over = [each for each in found if min(each.forgotten, limits.now) + limits.grace <= limits.now]
    return [each for each in found if each not in over], over


def _delete(repository: Repository, before: _Found, limits: _Limits, rewritten: int) -> tuple[_Found, _Done]:
    """Under the exclusive lock: take in what is new, and delete what may still go."""
    with repository.lock(exclusive=True) as lock:
        started = time.monotonic()
        found = before
        candidates = {**found.of(Action.DELETE), **found.of(Action.REWRITE)}
        held, _ = _forgotten(repository, limits)
        trees = [each.snapshot.tree for each in held]
        copies = catch_up(found.usage, leaving=candidates, hold=trees)
        if copies is None:
            # Somebody else has changed the index. What was copied serves the next run.
            found, copies = _measure(repository, limits), set()
            candidates = found.of(Action.DELETE)
        gone = removable(found.usage, candidates, copies)
        lock.ensure_there()
        orphans = found.orphans & {info.key.rpartition("/")[2] for info in found.usage.unindexed}
        for each in found.expired:
            lock.ensure_held()
            drop_forgotten(repository, each)
        # What is used again since the marks were written is not to go any more.
        left = still_dead(found.usage, {pack: mark for pack, mark in found.wanted.items() if pack not in gone})
        remove_packs(found.usage, lock, gone | orphans)
        save_marks(repository, load_marks(repository), left.values())
        exclusive = time.monotonic() - started
    return found, _Done(rewritten, frozenset(gone | orphans), exclusive)


def _report(found: _Found, done: _Done, *, dry_run: bool, seconds: float) -> PruneReport:
    meant = [*found.plan.of(Action.DELETE), *found.plan.of(Action.REWRITE)]
    acting = [decision for decision in meant if dry_run or decision.pack in done.removed]
    marked = found.plan.of(Action.MARK)
    deleted = [each for each in acting if each.action is Action.DELETE]
    indexed = [each for each in deleted if each.pack in found.wanted]
    due = min((decision.due for decision in marked if decision.due is not None), default=None)
    return PruneReport(
        dry_run=dry_run,
        packs_before=len(found.usage.listed),
        packs_deleted=len(indexed),
        packs_repacked=len(acting) - len(deleted),
        packs_orphaned=len(deleted) - len(indexed),
        packs_fresh=len(found.plan.of(Action.LEAVE)),
        packs_marked=len(marked),
        bytes_before=found.plan.bytes_total,
        bytes_unused=found.plan.bytes_unused,
        bytes_freed=sum(decision.freed for decision in acting),
        bytes_marked=sum(decision.freed for decision in marked),
        bytes_rewritten=done.rewritten,
        undoable=len(found.held),
        next_due=None if due is None else datetime.fromtimestamp(due, UTC),
        decisions=(*acting, *marked, *found.plan.of(Action.LEAVE)),
        exclusive_seconds=done.exclusive,
        seconds=seconds,
    )
