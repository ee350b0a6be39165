"""Tasks of retention: the plan with its reasons, forgetting, pruning."""

from __future__ import annotations

from prefect import get_run_logger

from holdfast.errors import ConfigError
from holdfast.services.prune import PruneReport, prune
from holdfast.services.retention import ForgetReport, RetentionPlan, forget, plan_retention
from holdfast.services.rules import rules_of
from holdfast.services.wal_expiry import WalExpiryReport, expire_wal, windows_of
from tasks.artifacts import moment, seconds, show_table, size
from tasks.common import configuration, explained, repository_of, step


@step("plan retention", "plan {stack}")
def plan_forgetting(config: str, stack: str) -> RetentionPlan:
    """What stays and what goes, each with its reasons, as a table."""
    with explained():
        loaded = configuration(config, stack)
        rules = rules_of(loaded, stack)
        if rules is None:
            raise ConfigError("the stack has no retention", which=stack, wanted=f"stacks.{stack}.retention")
        with repository_of(loaded) as repository:
            plan = plan_retention(repository, stack, rules)
        rows = [
            {
                "": "keep" if decision.keep else "forget",
                "restore point": decision.point,
                "time": moment(decision.time),
                "why": "; ".join(decision.reasons),
            }
            for decision in plan.decisions
        ]
        show_table("retention", stack, rows, f"{stack}: {len(plan.keep)} stay, {len(plan.remove)} go.")
        for note in plan.notes:
            get_run_logger().warning("a proof that protects nothing: %s", note)
        return plan


@step("forget", "forget {plan.stack}")
def forget_points(config: str, plan: RetentionPlan) -> ForgetReport:
    """Drop what the plan, made anew, still says."""
    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            report = forget(repository, plan)
        get_run_logger().info("forgot %d restore points of %s", len(report.points), report.stack)
        return report


@step("expire WAL", "expire WAL")
def expire_archives(config: str) -> list[WalExpiryReport]:
    """Delete the WAL that no base backup and no recovery window needs."""
    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            reports = expire_wal(repository, windows_of(loaded))
        for report in reports:
            for line in report.lines:
                get_run_logger().info("WAL of %s: %s", report.system, line)
        return reports


@step("prune", "prune")
def prune_data(config: str) -> PruneReport:
    """Mark what nothing refers to any more; delete what was marked before the grace period."""
    with explained():
        loaded = configuration(config)
        with repository_of(loaded) as repository:
            report = prune(repository, grace_hours=loaded.repository.grace_hours)
        logger = get_run_logger()
        logger.info("pruned: %s freed in %s", size(report.bytes_freed), seconds(report.seconds))
        if report.next_due is not None:
            due = moment(report.next_due)
            logger.info("marked: %s in %d packs, to go after %s", size(report.bytes_marked), report.packs_marked, due)
        return report
