"""Recovery to an instant: a base backup and its WAL into a directory or a new volume, ready to start.

Rules upheld here:
- The WAL is fetched and checked before the data: a damaged segment costs no restore.
- A restore that cannot be finished leaves the target as empty as it was.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping

import msgspec

from holdfast.errors import RestoreError
from holdfast.postgres.recovery_settings import PREFETCHED, WAL_FOLDER, configure_recovery
from holdfast.postgres.tablespaces import place_tablespaces
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.combining import Combine, combine_here, restore_combined
from holdfast.services.extraction_contents import Extracted
from holdfast.services.pitr_plan import PitrPlan
from holdfast.services.replay import Replayed, ReplayWatch, judge_tablespaces, refuse_minimal
from holdfast.services.restore import RestoreReport, restore_directory
from holdfast.services.wal_restore import prefetch


class PitrReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery was prepared from. `wal_bytes` as fetched; `seconds` in all, `wal_seconds` of it for WAL."""

    restore: RestoreReport
    target: str
    directory: str
    timeline: int
    wal_files: int
    wal_bytes: int
    wal_seconds: float
    seconds: float
    notes: tuple[str, ...] = ()


def restore_pitr(
    repository: Repository,
    planned: PitrPlan,
    directory: str,
    *,
    restore_command: str | None = None,
    tablespaces: Mapping[int, str] | None = None,
    combine: Combine = combine_here,
    on_progress: Callable[[Extracted], None] | None = None,
    here: bool = True,
) -> PitrReport:
    """Write base backup, WAL and recovery settings into an empty or missing directory.

    Args:
        repository: an open repository.
        planned: the plan.
        directory: PGDATA to be.
        restore_command: fetches WAL on demand instead of now.
        tablespaces: where to put tablespaces, by oid; the others stay inside the data directory.
        combine: makes a data directory of an incremental backup and those below it.
        on_progress: told now and then what of the base was written.
        here: whether a server will run on it on this machine, and see its folders: not in a container.

    Raises: TargetNotEmpty, RestoreError, WalMissing, CorruptObject, the store's errors; then nothing is left behind.
    """
    started = time.monotonic()
    path = os.path.abspath(directory)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    staged = f"{path}.holdfast-wal-{secrets.token_hex(4)}"
    fetched, replayed, spaces = 0, Replayed(), list[str]()
    try:
        if restore_command is None:
            fetched, replayed = _bring_wal(repository, planned, staged)
            spaces = _judge(planned, replayed, here=here)
        wal_seconds = time.monotonic() - started
        report = _restore_base(repository, planned, path, combine, on_progress)
        least = replayed.least(planned.facts.settings)
        notes = _finish(planned, report, path, staged, restore_command, tablespaces or {}, least)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return PitrReport(
        restore=report,
        target=str(planned.plan.target),
        directory=path,
        timeline=planned.plan.history.timeline,
        wal_files=0 if restore_command else len(planned.plan.segments) + (planned.plan.partial is not None),
        wal_bytes=fetched,
        wal_seconds=wal_seconds,
        seconds=time.monotonic() - started,
        notes=(*notes, *spaces),
    )


def _bring_wal(repository: Repository, planned: PitrPlan, folder: str) -> tuple[int, Replayed]:
    """Fetch the WAL; the bytes, and what it does. Raises: as `prefetch`."""
    watch, plan = ReplayWatch(), planned.plan
    fetched = prefetch(archive_for(repository, planned), plan, folder, histories=planned.stock, watch=watch)
    segments = plan.segments if plan.partial is None else (*plan.segments, plan.partial)
    return fetched, watch.look(folder, segments, until=plan.target.lsn)


def _judge(planned: PitrPlan, replayed: Replayed, *, here: bool) -> list[str]:
    """What has to be there when it is replayed. Raises: RestoreError where that does harm, or leads nowhere."""
    refuse_minimal(replayed.settings)
    return judge_tablespaces(replayed.tablespaces, {space.oid for space in planned.facts.tablespaces}, here=here)


def archive_for(repository: Repository, planned: PitrPlan) -> WalArchive:
    """The archive that a plan reads from."""
    return WalArchive(repository.store, repository.key, planned.facts.system)


def _restore_base(
    repository: Repository,
    planned: PitrPlan,
    path: str,
    combine: Combine,
    on_progress: Callable[[Extracted], None] | None,
) -> RestoreReport:
    if not planned.below:
        return restore_directory(repository, planned.snapshot, path, on_progress=on_progress)
    parts = (*planned.below, planned.snapshot)
    return restore_combined(repository, parts, path, planned.facts, combine, on_progress)


def _finish(
    planned: PitrPlan,
    report: RestoreReport,
    path: str,
    staged: str,
    restore_command: str | None,
    tablespaces: Mapping[int, str],
    least: Mapping[str, str],
) -> list[str]:
    """WAL and settings into the restored directory. Nothing stays when it fails, or when the base is damaged."""
    try:
        _refuse_damaged(planned, report)
        owner = os.stat(path)
        if restore_command is None:
            _give(staged, owner.st_uid, owner.st_gid)
            os.rename(staged, os.path.join(path, WAL_FOLDER))
        notes = configure_recovery(
            path,
            planned.facts,
            planned.plan.target,
            timeline=planned.plan.history.timeline,
            action=planned.action,
            restore_command=restore_command or PREFETCHED,
            least=least,
        )
        return [*notes, *place_tablespaces(path, planned.facts.tablespaces, tablespaces)]
    except BaseException:
        for name in os.listdir(path):
            full = os.path.join(path, name)
            if os.path.isdir(full) and not os.path.islink(full):
                shutil.rmtree(full, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(full)
        raise


def _refuse_damaged(planned: PitrPlan, report: RestoreReport) -> None:
    if report.damaged:
        raise RestoreError(
            "the base backup is damaged and cannot be recovered from",
            which=planned.snapshot.short_id,
            found=f"{len(report.damaged)} files, first {report.damaged[0]}",
            hint="an older base backup reaches the same time with more WAL: holdfast wal status",
        )


def _give(folder: str, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(folder, uid, gid)
        for name in os.listdir(folder):
            os.chown(os.path.join(folder, name), uid, gid)
