"""Tasks of a restore: the plan, one task per source."""

from __future__ import annotations

from prefect import get_run_logger

from holdfast.errors import CorruptObject
from holdfast.services.extraction_contents import Extracted
from holdfast.services.recovery import RestorePlan, RestoreStep, plan_restore, restore_step, sizes_of
from holdfast.services.restore import RestoreReport
from tasks.artifacts import Progress, seconds, show_table, size
from tasks.common import configuration, explained, repository_of, step


@step("plan a restore", "plan {stack}")
def plan_steps(config: str, stack: str, point: str, replace: bool) -> RestorePlan:
    """Where each source would go, as a table."""
    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            plan = plan_restore(loaded, repository, stack, point, replace=replace)
        rows = [{"source": s.source, "snapshot": s.snapshot[:8], "what happens": s.target} for s in plan.steps]
        show_table("restore-plan", stack, rows, f"Restore point {plan.point} of {stack}: what a restore does.")
        return plan


@step("restore a source", "restore {source.source}")
def restore_source(config: str, plan: RestorePlan, source: RestoreStep, progress: Progress) -> RestoreReport:
    """Restore one source to its place."""
    log = get_run_logger()

    def tell(done: Extracted) -> None:
        words = progress.tell(source.source, done.files, done.bytes)
        if words:
            log.info("%s", words)

    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            progress.expect(sizes_of(repository, plan))
            report = restore_step(loaded, repository, plan, source, tell)
        for note in report.notes:
            get_run_logger().warning("%s: %s", source.source, note)
        return report


@step("report a restore", "report {plan.stack}")
def report_restore(plan: RestorePlan, reports: list[RestoreReport]) -> None:
    """The table of what was restored. Raises: CorruptObject when something is lost."""
    rows = [
        {
            "source": report.source,
            "to": report.target,
            "files": f"{report.files:,}",
            "data": size(report.bytes),
            "time": seconds(report.seconds),
            "lost": str(len(report.damaged)),
        }
        for report in reports
    ]
    show_table("restore", plan.stack, rows, f"Restored {plan.point} of {plan.stack}.")
    lost = [line for report in reports for line in report.damaged]
    if lost:
        with explained():
            raise CorruptObject(
                f"{len(lost)} files could not be restored, everything else was",
                which=plan.stack,
                found=lost[0],
                hint="an older restore point may have them whole: holdfast list",
            )
