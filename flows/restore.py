"""The flow that restores a stack."""

from __future__ import annotations

from prefect import flow

from holdfast.services.restore import RestoreReport
from tasks.artifacts import Progress
from tasks.common import tag_run
from tasks.restore import plan_steps, report_restore, restore_source


@flow(name="restore", flow_run_name="restore {stack} from {point}", persist_result=False)
def restore(
    stack: str, config: str = "", point: str = "latest", replace: bool = False, dry_run: bool = True
) -> list[RestoreReport]:
    """Restore a stack to its place. What holds data stays: the restored data then goes beside it, unless you replace.

    Args:
        stack: The stack, by its name in the configuration.
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
        point: The restore point, as `holdfast list` shows it, or latest.
        replace: Replace what is there; it is kept until the new data is whole. Stop the application first.
        dry_run: Only show what would be done. Look at it, then run again with this off.
    """
    tag_run(stack)
    plan = plan_steps(config, stack, point, replace)
    if dry_run:
        return []
    progress = Progress("restore", stack, f"Restoring {plan.point} of {stack}")
    reports = [restore_source(config, plan, source, progress) for source in plan.steps]
    progress.finish()
    report_restore(plan, reports)
    return reports
