"""`holdfast forget`: drop restore points by policy; shows the reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from holdfast.cli import text
from holdfast.cli.commands.prune import remembered
from holdfast.cli.commands.prune import show_report as show_prune
from holdfast.cli.options import Access, repository_options
from holdfast.errors import ConfigError, SnapshotNotFound
from holdfast.policy.retention import Rules
from holdfast.repository.repository import Repository
from holdfast.services.outcomes import outcome
from holdfast.services.retention import (
    ForgetReport,
    RetentionPlan,
    forget,
    plan_retention,
    snapshots_of,
)
from holdfast.services.rules import parse_duration

if TYPE_CHECKING:
    from holdfast.services.wal_expiry import WalExpiryReport

_COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def _rule_options(function: click.decorators.FC) -> click.decorators.FC:
    function = click.option("--keep-within", metavar="DURATION", help="Everything younger than 1y6m2d12h.")(function)
    for name in reversed(_COUNTS):
        option = click.option(f"--keep-{name}", type=click.IntRange(min=1), metavar="N", help=f"This many {name} ones.")
        function = option(function)
    return function


@click.command()
@repository_options
@click.option("--stack", "stacks", multiple=True, metavar="NAME", help="Only this stack.")
@_rule_options
@click.option("--dry-run", is_flag=True, help="Only show what would go, and why.")
@click.option("--prune", "and_prune", is_flag=True, help="Then mark and delete data that is not used any more.")
@click.option("--undo", metavar="POINT", help="Bring back a restore point or snapshot that was forgotten lately.")
def command(
    access: Access,
    stacks: tuple[str, ...],
    keep_within: str | None,
    dry_run: bool,
    and_prune: bool,
    undo: str | None,
    **counts: int | None,
) -> None:
    """Forget restore points that no rule keeps: by the rules of the configuration, or those given with one --stack.

    The newest whole one and the last proven one always stay. The data stays until a prune after the grace period
    (repository.prune.grace, a day): so long --undo brings a point back.
    """
    if undo is not None:
        _undo(access, undo)
        return
    try:
        within = parse_duration(keep_within) if keep_within else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--keep-within") from error
    given = msgspec.convert({"keep_within": within, **counts, "timezone": _timezone(access)}, Rules)
    todo = _rules(access, stacks, given)
    with access.open() as repository:
        plans = [plan_retention(repository, stack, rules) for stack, rules in todo]
        if not given.empty:
            _require_points(repository, plans[0])
        for plan in () if access.json else plans:
            _show(plan, dry_run=dry_run)
        reports = [] if dry_run else [_forget(repository, plan) for plan in plans]
        pruned = None
        if and_prune:
            from holdfast.cli.commands.prune import grace_of
            from holdfast.services.prune import prune

            gone = {snapshot for plan in plans for snapshot in snapshots_of(repository, plan)} if dry_run else ()
            with remembered(dry_run):
                pruned = prune(repository, dry_run=dry_run, without=gone, grace_hours=grace_of(access))
    if pruned is not None and not access.json:
        show_prune(pruned)
    expired = _expire_wal(access, dry_run=dry_run) if and_prune and access.config_path else []
    if access.json:
        text.show_json({"plans": plans, "forgotten": reports, "prune": pruned, "wal": expired})


def _undo(access: Access, what: str) -> None:
    from holdfast.services.undo import undo_forget

    with access.open() as repository:
        report = undo_forget(repository, what)
    if access.json:
        text.show_json(report)
    else:
        text.show(f"{what}: there again, {text.many(len(report.snapshots), 'snapshot')}")
        text.show("the next retention run forgets it again, unless the rules are changed so that they keep it")


def _forget(repository: Repository, plan: RetentionPlan) -> ForgetReport:
    with outcome("retention", plan.stack):
        return forget(repository, plan)


def _expire_wal(access: Access, *, dry_run: bool) -> list[WalExpiryReport]:
    from holdfast.cli.commands.wal import expire_by_configuration

    return expire_by_configuration(access, dry_run=dry_run)


def _rules(access: Access, stacks: tuple[str, ...], given: Rules) -> list[tuple[str, Rules]]:
    if not given.empty:
        if len(stacks) != 1:
            raise click.UsageError("rules on the command line go with one --stack NAME")
        return [(stacks[0], given)]
    from holdfast.services.rules import rules_of

    config, chosen = access.stacks(stacks)
    found = [(name, rules_of(config, name)) for name in chosen]
    todo = [(name, rules) for name, rules in found if rules is not None]
    if not todo:
        raise ConfigError(
            "no stack has a retention",
            wanted="rules below stacks.NAME.retention, or --stack NAME --keep-last N",
            hint="without rules everything stays",
        )
    return todo


def _require_points(repository: Repository, plan: RetentionPlan) -> None:
    """A name that nothing has is a slip: rules of the command line are not those of a stack that is to come."""
    if not plan.decisions:
        others = sorted({snapshot.stack for snapshot in repository.snapshots().snapshots if snapshot.stack})
        raise SnapshotNotFound(
            "the stack has no restore point",
            which=plan.stack,
            found=f"those of {', '.join(others)}" if others else None,
            hint="holdfast list",
        )


def _timezone(access: Access) -> str:
    """Where days begin: as the configuration says, when there is one."""
    return access.config().timezone if access.config_path else Rules().timezone


def _show(plan: RetentionPlan, *, dry_run: bool) -> None:
    verb = "would be forgotten" if dry_run else "forgotten"
    text.show(f"stack {plan.stack}: {len(plan.keep)} kept, {len(plan.remove)} {verb}")
    rows = [
        ("keep" if decision.keep else "forget", decision.point, text.moment(decision.time), "; ".join(decision.reasons))
        for decision in plan.decisions
    ]
    if rows:
        text.show(text.table(("", "RESTORE POINT", "TIME", "WHY"), rows))
    for note in plan.notes:
        text.show(f"a proof that protects nothing: {note}")
