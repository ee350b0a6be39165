"""The flow that forgets what no rule keeps, and prunes."""

from __future__ import annotations

from prefect import flow

from holdfast.services.outcomes import outcome
from holdfast.services.retention import RetentionPlan
from tasks.common import tag_run
from tasks.retention import expire_archives, forget_points, plan_forgetting, prune_data


@flow(name="retention", flow_run_name="retention of {stack}", persist_result=False)
def retention(stack: str, config: str = "", dry_run: bool = False, prune: bool = True) -> RetentionPlan:
    """Forget the restore points that no rule of the configuration keeps. The last proven one always stays.

    Args:
        stack: The stack, by its name in the configuration.
        config: The configuration file on the worker; empty for the one that HOLDFAST_CONFIG names.
        dry_run: Only show what would be forgotten, and why.
        prune: Then delete the data that nothing refers to any more.
    """
    tag_run(stack)
    if dry_run:
        return plan_forgetting(config, stack)
    with outcome("retention", stack):
        plan: RetentionPlan = plan_forgetting(config, stack)
        forget_points(config, plan)
    if prune:
        with outcome("prune", "repository"):
            prune_data(config)
            expire_archives(config)
    return plan
