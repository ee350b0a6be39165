"""`holdfast prune`: mark data that no snapshot refers to any more, and delete what was marked long enough."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.services.outcomes import outcome
from holdfast.services.prune import GRACE_HOURS, MAX_UNUSED, PruneReport, prune

_SHOWN = 40


@click.command()
@repository_options
@click.option("--dry-run", is_flag=True, help="Only say what would be done, pack by pack.")
@click.option("--now", "at_once", is_flag=True, help="Delete what is unused at once: nothing forgotten comes back.")
@click.option(
    "--max-unused", type=click.FloatRange(0, 100), default=MAX_UNUSED * 100, show_default=True, metavar="PERCENT",
    help="How much of the stored data may stay unused in packs that are partly used.",
)  # fmt: skip
@click.option(
    "--grace-hours", type=click.FloatRange(min=0), metavar="HOURS",
    help="How long data stays after it was marked. [default: repository.prune.grace, else 24]",
)  # fmt: skip
def command(access: Access, dry_run: bool, at_once: bool, max_unused: float, grace_hours: float | None) -> None:
    """Mark what is not used, and delete what was marked before the grace period.

    Backups go on meanwhile, but for the moment of deleting. Until the data is gone, a restore point that was forgotten
    comes back with `holdfast forget --undo POINT`.
    """
    if at_once and grace_hours is not None:
        raise click.UsageError("--now is a grace period of nothing: not with --grace-hours")
    grace = 0.0 if at_once else grace_of(access, grace_hours)
    with remembered(dry_run), access.open() as repository:
        report = prune(repository, dry_run=dry_run, max_unused=max_unused / 100, grace_hours=grace)
    if access.json:
        text.show_json(report)
    else:
        show_report(report)


def grace_of(access: Access, hours: float | None = None) -> float:
    """The grace period in hours: as the command line says, else the configuration."""
    if hours is not None:
        return hours
    return access.config().repository.grace_hours if access.config_path else GRACE_HOURS


def remembered(dry_run: bool) -> AbstractContextManager[object]:
    """The monitor tells of a prune that failed; a dry run is none."""
    return nullcontext() if dry_run else outcome("prune", "repository")


def show_report(report: PruneReport) -> None:
    """What a prune did, for people."""
    would = "would be " if report.dry_run else ""
    text.show(
        f"{text.many(report.packs_before, 'pack')}, {text.size(report.bytes_before)}, "
        f"of which {text.size(report.bytes_unused)} unused"
    )
    if report.dry_run:
        _show_plan(report)
    text.show(
        f"{would}deleted: {text.many(report.packs_deleted, 'pack')}, {report.packs_orphaned} left by broken uploads; "
        f"{would}rewritten: {report.packs_repacked}; {text.size(report.bytes_freed)} freed "
        f"in {text.seconds(report.seconds)}"
    )
    if report.next_due is not None:
        text.show(
            f"{would}marked: {text.many(report.packs_marked, 'pack')}, {text.size(report.bytes_marked)}: "
            f"deleted by the first prune after {text.moment(report.next_due)}, or now with --now"
        )
    if report.undoable:
        text.show(f"{report.undoable} forgotten snapshots can still come back: holdfast forget --undo POINT")
    if report.packs_fresh:
        text.show(f"left alone: {text.many(report.packs_fresh, 'pack')} without an index, too young")


def _show_plan(report: PruneReport) -> None:
    rows = [
        (
            decision.action.value,
            decision.pack[:12],
            text.size(decision.size),
            text.size(decision.freed),
            decision.reason,
        )
        for decision in report.decisions[:_SHOWN]
    ]
    if rows:
        text.show(text.table(("", "PACK", "SIZE", "FREES", "WHY"), rows))
    if len(report.decisions) > _SHOWN:
        text.show(f"… and {len(report.decisions) - _SHOWN} more packs (--json shows all)")
