"""Prune: delete the data that no snapshot refers to any more.

Rules upheld here:
- Everything happens under restic's exclusive lock, which no writer shares: what is unused then is unused for good, so a
  pack that an index names can go at once. A pack that no index names may be an upload whose writer lost its lock, or of
  a tool without one: it goes only when it is older than the grace period.
- A dry run deletes nothing and takes a shared lock: it disturbs no backup.
- What is unused is measured under the same lock, and measuring refuses when anything that could refer to data cannot
  be read.
- A pack is rewritten only when enough of it is dead; a little waste is cheaper than the traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import msgspec

from holdfast.model.ids import SnapshotId
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import BlobKind, header_size
from holdfast.repository.repository import Repository
from holdfast.repository.rewrite import remove_packs
from holdfast.repository.usage import Usage, measure_usage

GRACE_HOURS = 24.0
MAX_UNUSED = 0.05


class PrunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a prune does with each pack. `fresh` are packs without an index that may be an upload in flight."""

    keep: tuple[str, ...]
    delete: tuple[str, ...]
    repack: tuple[str, ...]
    orphans: tuple[str, ...]
    fresh: tuple[str, ...]
    bytes_total: int
    bytes_unused: int
    bytes_freed: int


class PruneReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a prune did, or with `dry_run` would do. Bytes are those on the store."""

    dry_run: bool
    packs_before: int
    packs_deleted: int
    packs_repacked: int
    packs_orphaned: int
    packs_fresh: int
    bytes_before: int
    bytes_unused: int
    bytes_freed: int
    bytes_rewritten: int
    seconds: float


def prune(
    repository: Repository,
    *,
    dry_run: bool = False,
    without: Collection[SnapshotId] = (),
    max_unused: float = MAX_UNUSED,
    grace_hours: float = GRACE_HOURS,
    now: Callable[[], float] = time.time,
) -> PruneReport:
    """Delete what nothing refers to.

    Args:
        repository: an open repository.
        dry_run: only say what would be done.
        without: for a dry run: snapshots to be taken as forgotten already.
        max_unused: the share of all stored bytes that may stay unused inside packs that are partly used.
        grace_hours: how old a pack must be that no index names.
        now: Unix seconds.

    Raises: RepositoryLocked, CorruptObject (nothing was deleted then), the store's errors.
    """
    if without and not dry_run:
        raise ValueError("snapshots are left out of a dry run only: forget them first")
    started = time.monotonic()
    with repository.lock(exclusive=not dry_run) as lock:
        repository.refresh()
        usage = measure_usage(repository, without=without)
        plan = plan_prune(usage, max_unused=max_unused, older_than=now() - grace_hours * 3600)
        written = 0
        if not dry_run and (plan.delete or plan.repack):
            written = remove_packs(repository, lock, usage, delete=plan.delete, repack=plan.repack)
        if not dry_run:
            for pack in plan.orphans:
                lock.ensure_held()
                repository.store.delete(key_of(Folder.DATA, pack))
        repository.refresh()
    return PruneReport(
        dry_run=dry_run,
        packs_before=len(usage.listed),
        packs_deleted=len(plan.delete),
        packs_repacked=len(plan.repack),
        packs_orphaned=len(plan.orphans),
        packs_fresh=len(plan.fresh),
        bytes_before=plan.bytes_total,
        bytes_unused=plan.bytes_unused,
        bytes_freed=plan.bytes_freed,
        bytes_rewritten=written,
        seconds=time.monotonic() - started,
    )


def plan_prune(usage: Usage, *, max_unused: float, older_than: float) -> PrunePlan:
    """Decide for each pack. `older_than` is in Unix seconds. Pure."""
    sizes = {pack: info.size for pack, info in usage.listed.items()}
    unused = {pack: _unused(usage, pack) for pack in usage.packs if pack in sizes}
    delete = tuple(sorted(pack for pack in usage.packs if not usage.used.get(pack)))
    partly = sorted((pack for pack in unused if usage.used.get(pack) and unused[pack]), key=lambda pack: -unused[pack])
    total = sum(sizes.values())
    budget = max_unused * total
    waste = sum(unused[pack] for pack in partly)
    repack = []
    for pack in partly:
        # Trees are small and read often: they are always tidied up.
        if waste <= budget and not _holds_trees(usage, pack):
            continue
        repack.append(pack)
        waste -= unused[pack]
    orphans: list[str] = []
    fresh: list[str] = []
    for info in usage.unindexed:
        old = info.modified is not None and info.modified < older_than
        (orphans if old else fresh).append(info.key.rpartition("/")[2])
    gone = [*delete, *orphans]
    return PrunePlan(
        keep=tuple(sorted(set(unused) - {*delete, *repack})),
        delete=delete,
        repack=tuple(repack),
        orphans=tuple(sorted(orphans)),
        fresh=tuple(sorted(fresh)),
        bytes_total=total,
        bytes_unused=sum(unused.values()) + sum(sizes[pack] for pack in orphans),
        bytes_freed=sum(sizes.get(pack, 0) for pack in gone) + sum(unused[pack] for pack in repack),
    )


def _unused(usage: Usage, pack: str) -> int:
    """Bytes of a pack that could go: of dead blobs, and of their part of the header."""
    used = usage.used.get(pack, set())
    seen: set[tuple[BlobKind, bytes]] = set()
    dead = []
    for blob in usage.packs[pack]:
        key = (blob.kind, blob.id)
        if key not in used or key in seen:
            dead.append(blob)
        seen.add(key)
    return sum(blob.length for blob in dead) + (header_size(dead) - header_size([]) if dead else 0)


def _holds_trees(usage: Usage, pack: str) -> bool:
    return any(blob.kind == BlobKind.TREE for blob in usage.packs[pack])
