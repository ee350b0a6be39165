"""Tasks of a backup: the plan, and one task per source that captures, uploads and commits."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import get_run_logger, runtime

from holdfast.repository.file_capture import TreeStats
from holdfast.services.backup import BackupReport, SourceReport
from holdfast.services.stacks import BackupPlan, capture_group, only_one, plan_backup, sizes_before
from tasks.artifacts import Progress, point_words, seconds, show_table, size
from tasks.common import configuration, explained, repository_of, step


@step("plan a backup", "plan {stack}")
def plan_sources(config: str, stack: str) -> BackupPlan:
    """What will be captured; a mistyped name fails here, before anything is read."""
    with explained():
        return plan_backup(configuration(config, stack), stack, now=datetime.now(UTC))


def _capture_name() -> str:
    group: tuple[str, ...] = runtime.task_run.parameters["group"]
    return f"capture {', '.join(group)}"


@step("capture a group of sources", _capture_name)
def capture(
    config: str, plan: BackupPlan, group: tuple[str, ...], allow_empty: bool, progress: Progress
) -> tuple[SourceReport, ...]:
    """Read, hold, upload and commit what is captured together: a single step, so that what it holds it also lets go."""
    log = get_run_logger()

    def tell(label: str, stats: TreeStats) -> None:
        words = progress.tell(label, stats.files, stats.bytes)
        if words:
            log.info("%s", words)

    with explained():
        loaded = configuration(config, plan.stack)
        with repository_of(loaded) as repository, only_one(loaded, plan.stack):
            progress.expect(sizes_before(repository, plan))
            return capture_group(loaded, repository, plan, group, allow_empty=allow_empty, on_progress=tell)


@step("report a backup", "report {report.stack}")
def report_backup(report: BackupReport) -> None:
    """The table of what was captured."""
    log = get_run_logger()
    rows = [_row(source) for source in report.sources]
    words = f"{point_words(report.point)}of {report.stack}, made in {seconds(report.seconds)}."
    show_table("backup", report.stack, rows, words)
    log.info("%s", words)
    for source in report.sources:
        for note in source.notes:
            log.warning("%s: %s", source.source, note)


def _row(source: SourceReport) -> dict[str, str]:
    known = source.bytes_processed - source.bytes_added
    share = known / source.bytes_processed if source.bytes_processed else 0.0
    return {
        "source": source.source,
        "files": f"{source.files_new + source.files_changed + source.files_unmodified:,}",
        "changed": f"{source.files_new + source.files_changed:,}",
        "seen": size(source.bytes_processed),
        "new": size(source.bytes_added),
        "deduplicated": f"{size(max(known, 0))} ({max(share, 0.0):.1%})",
        "held": seconds(max(source.held.values())) if source.held else "nothing",
        "time": seconds(source.seconds),
        "stored": size(source.bytes_stored),
        "unreadable": str(source.incomplete) if source.incomplete else "none",
        "snapshot": source.snapshot[:8],
    }
