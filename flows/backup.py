"""The flow that backs a stack up."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow

from holdfast.services.backup import BackupReport, SourceReport
from holdfast.services.failing import Failing
from holdfast.services.outcomes import outcome
from tasks.artifacts import Progress
from tasks.backup import capture, plan_sources, report_backup
from tasks.common import explained, tag_run


@flow(name="backup", flow_run_name="back up {stack}", log_prints=False, persist_result=False)
def backup(stack: str, config: str = "", allow_empty: bool = False) -> BackupReport:
    """Capture every source of a stack into one restore point. It fails when files could not be read; the point stays.

    Args:
        stack: The stack, by its name in the configuration.
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
        allow_empty: Accept a source that is empty and was not last time.
    """
    tag_run(stack)
    with outcome("backup", stack):
        plan = plan_sources(config, stack)
        progress = Progress("backup", stack, f"Backing up {stack}: {', '.join(plan.sources)}")
        reports: list[SourceReport] = []
        failing = Failing()
        for group in plan.groups:
            with failing.alone(", ".join(group)):
                reports.extend(capture(config, plan, group, allow_empty, progress))
        progress.finish()
        report = BackupReport(
            stack=stack,
            point=plan.point,
            started=plan.started,
            seconds=(datetime.now(UTC) - plan.started).total_seconds(),
            sources=tuple(reports),
        )
        if reports:
            report_backup(report)
        failing.end(len(reports), len(plan.sources), f"restore point {plan.point} of {stack}")
        if report.problem is not None:  # a run that nobody watches must not look as if all were there
            with explained():
                raise report.problem
    return report
