"""Expiring WAL: what the archive holds, which base backups are left, and the deletion of what neither needs.

Rules upheld here:
- Planned and carried out under the exclusive lock; nothing goes while a snapshot or a base backup's facts cannot be
  read: it might be the one that needs it.
- A cluster is judged by all of its base backups, of whatever stack. Its window is the longest of theirs; a stack whose
  window is not known keeps everything that follows its oldest base backup.
- What was forgotten and can still come back counts like what is there: a base backup without its WAL is worth nothing.
  What cannot be read cannot come back, and is left out.
- Oldest first: what is left after an interruption is whole from some base backup on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from holdfast.errors import CorruptObject
from holdfast.model.base import BaseBackup
from holdfast.model.ids import PointId
from holdfast.model.snapshot import Snapshot
from holdfast.model.wal import parse_wal_name
from holdfast.policy.retention import Duration
from holdfast.policy.wal_expiry import WalDecision, bases_for_window, expire, range_of
from holdfast.repository.forgotten import forgotten_snapshots
from holdfast.repository.lock import Lock
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive, systems
from holdfast.services.bases import bases_of

if TYPE_CHECKING:
    from holdfast.config.models import Config


class WalExpiryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one cluster's archive, or with `dry_run` would. `bytes_freed` on the store."""

    system: str
    dry_run: bool
    decisions: tuple[WalDecision, ...]
    files_removed: int
    bytes_freed: int

    @property
    def lines(self) -> list[str]:
        """Each run of files with its reason, for people."""
        return [f"{'keep' if d.keep else 'remove'}  {range_of(d)}: {d.reason}" for d in self.decisions]


def windows_of(config: Config) -> dict[str, Duration | None]:
    """The recovery window of each stack; None where none is set."""
    from holdfast.services.rules import rules_of

    found = {}
    for name in config.stacks:
        rules = rules_of(config, name)
        found[name] = rules.recovery_window if rules else None
    return found


def expire_wal(
    repository: Repository,
    windows: Mapping[str, Duration | None],
    *,
    dry_run: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[WalExpiryReport]:
    """Delete the WAL that no base backup and no window needs, for every cluster.

    Raises: RepositoryLocked, CorruptObject when something cannot be read, the store's errors.
    """
    with repository.lock(exclusive=not dry_run) as lock:
        repository.refresh()
        snapshots = readable_snapshots(repository)
        stacks = {snapshot.id: snapshot.stack for snapshot in snapshots}
        bases = [base for base, _ in bases_of(repository, snapshots, strict=True)]
        forgotten = _forgotten_bases(repository, snapshots)
        reports = []
        for system in systems(repository.store):
            own = [base for base in bases if base.system == system]
            window = _window([windows.get(stacks[base.snapshot] or "") for base in own], now())
            archive = WalArchive(repository.store, repository.key, system)
            gone = [base for base in forgotten if base.system == system]
            reports.append(_expire_one(archive, own, gone, window, lock, dry_run=dry_run, now=now()))
    return reports


def _forgotten_bases(repository: Repository, snapshots: Sequence[Snapshot]) -> list[BaseBackup]:
    """The base backups that can come back, each with what it builds on."""
    gone = [each.snapshot for each in forgotten_snapshots(repository)]
    ids = {snapshot.id for snapshot in gone}
    return [base for base, _ in bases_of(repository, [*snapshots, *gone]) if base.snapshot in ids] if gone else []


def needed_points(
    repository: Repository, snapshots: Sequence[Snapshot], window: Duration, *, now: datetime
) -> dict[PointId, str]:
    """The restore points whose base backups a recovery window needs, with the reason.

    Raises: CorruptObject when a base backup's facts cannot be read, the store's errors.
    """
    found: dict[PointId, str] = {}
    bases = [base for base, _ in bases_of(repository, snapshots, strict=True)]
    for system in sorted({base.system for base in bases}):
        own = [base for base in bases if base.system == system]
        stock = WalArchive(repository.store, repository.key, system).stock(own[-1].segment_size)
        needed = bases_for_window(own, stock, window, now=now)
        found.update({base.point: needed[base.snapshot] for base in own if base.snapshot in needed})
    return found


def readable_snapshots(repository: Repository) -> tuple[Snapshot, ...]:
    """All snapshots. Raises: CorruptObject when one cannot be read."""
    listed = repository.snapshots()
    if listed.damaged:
        raise CorruptObject(
            "no WAL is removed while a snapshot cannot be read",
            which=listed.damaged[0].which,
            found=f"{len(listed.damaged)} damaged snapshots",
            hint="holdfast verify",
        )
    return tuple(listed.snapshots)


def _expire_one(
    archive: WalArchive,
    bases: list[BaseBackup],
    forgotten: list[BaseBackup],
    window: Duration | None,
    lock: Lock,
    *,
    dry_run: bool,
    now: datetime,
) -> WalExpiryReport:
    size = bases[-1].segment_size if bases else 16 << 20
    names = archive.names()
    # Without a base backup nothing is judged, and the size of its segments is not known either.
    stock = archive.stock(size) if bases else None
    decisions = expire(names, stock, bases, window, now=now, forgotten=forgotten) if stock else []
    gone = [name for decision in decisions if not decision.keep for name in decision.names]
    sizes = archive.sizes() if gone else {}
    for text in () if dry_run else gone:
        name = parse_wal_name(text)
        if name is not None:
            lock.ensure_held()
            archive.delete(name)
    return WalExpiryReport(
        system=archive.system,
        dry_run=dry_run,
        decisions=tuple(decisions),
        files_removed=len(gone),
        bytes_freed=sum(sizes.get(name, 0) for name in gone),
    )


def _window(found: list[Duration | None], now: datetime) -> Duration | None:
    known = [window for window in found if window is not None]
    return None if len(known) < len(found) else min(known, key=lambda window: window.before(now), default=None)
