"""Backup: capture sources into snapshots; the snapshots of one run are a restore point.

Rules upheld here:
- Order on the store: packs, index, snapshot. A source that fails half-way raises before its snapshot exists.
- The lock is held from before the index is read until the snapshot is committed (`services.commit`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from holdfast.model.entry import Source
from holdfast.model.ids import PointId, new_point_id
from holdfast.repository.archive import TreeArchiver
from holdfast.repository.blobs import DEFAULT_LEVEL
from holdfast.repository.repository import Repository
from holdfast.services.commit import archive_data, commit, let_go
from holdfast.services.run import BackupReport, OnProgress, Run, SourceReport, compared_with

__all__ = ["BackupReport", "OnProgress", "Run", "SourceReport", "capture", "capture_live", "take_backup"]


def take_backup(
    repository: Repository,
    stack: str,
    sources: Sequence[Source],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    hostname: str | None = None,
    allow_empty: bool = False,
    level: int = DEFAULT_LEVEL,
    on_progress: OnProgress | None = None,
) -> BackupReport:
    """Capture every source of a stack, one after the other, into one restore point.

    Raises: SourceError and its kind, RepositoryLocked, the store's errors. Snapshots of sources that were captured
    before the failure stay, as an incomplete restore point that retention never counts.
    """
    started = now()
    point = new_point_id(started)
    reports = [
        capture(
            repository,
            source,
            stack=stack,
            point=point,
            parts=len(sources),
            now=now,
            hostname=hostname,
            allow_empty=allow_empty,
            level=level,
            on_progress=on_progress,
        )
        for source in sources
    ]
    seconds = (now() - started).total_seconds()
    return BackupReport(stack=stack, point=point, started=started, seconds=seconds, sources=tuple(reports))


def capture(
    repository: Repository,
    source: Source,
    *,
    stack: str,
    point: PointId,
    parts: int,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    hostname: str | None = None,
    allow_empty: bool = False,
    level: int = DEFAULT_LEVEL,
    on_progress: OnProgress | None = None,
) -> SourceReport:
    """Capture one source into one snapshot of a restore point that has `parts` snapshots in all.

    Raises: SourceError and its kind, RepositoryLocked, the store's errors; then no snapshot was made.
    """
    run = Run(
        stack=stack,
        point=point,
        parts=parts,
        host=hostname or socket.gethostname(),
        now=now,
        allow_empty=allow_empty,
        level=level,
        on_progress=on_progress,
    )
    return capture_live(repository, run, source)


def capture_live(repository: Repository, run: Run, source: Source) -> SourceReport:
    """Capture one source while it lives. Raises: as `capture`."""
    # The instant before anything is read: a file whose time is at or after it is read again by the next run.
    started = run.now()
    if repository.opening and hasattr(source, "look_ahead"):
        source.look_ahead(lambda: repository.opening)
    with repository.lock(settled=False) as lock:
        repository.refresh()
        parent = run.parent_of(repository, source)
        with repository.writer(level=run.level, before_upload=lock.settle) as blobs:
            archiver = TreeArchiver(blobs, repository.reader, compared_with(parent), run.notify(source))
            if hasattr(source, "drain"):
                source.drain = archiver.drain
            with let_go(source.entries()) as entries:
                archive_data(archiver, archiver.in_order(entries) if getattr(source, "unordered", False) else entries)
            return commit(repository, run, source, archiver, blobs, lock, parent=parent, started=started)
