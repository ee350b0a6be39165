"""`holdfast prune`: delete data that no snapshot refers to any more."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.services.outcomes import outcome
from holdfast.services.prune import GRACE_HOURS, MAX_UNUSED, PruneReport, prune


@click.command()
@repository_options
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--max-unused", type=click.FloatRange(0, 100), default=MAX_UNUSED * 100, show_default=True, metavar="PERCENT",
    help="How much of the stored data may stay unused in packs that are partly used.",
)  # fmt: skip
@click.option(
    "--grace-hours", type=click.FloatRange(min=0), default=GRACE_HOURS, show_default=True, metavar="HOURS",
    help="How old a pack must be that no index names.",
)  # fmt: skip
def command(access: Access, dry_run: bool, max_unused: float, grace_hours: float) -> None:
    """Delete what is not used, under an exclusive lock."""
    with remembered(dry_run), access.open() as repository:
        report = prune(repository, dry_run=dry_run, max_unused=max_unused / 100, grace_hours=grace_hours)
    if access.json:
        text.show_json(report)
    else:
        show_report(report)


def remembered(dry_run: bool) -> AbstractContextManager[None]:
    """The monitor tells of a prune that failed; a dry run is none."""
    return nullcontext() if dry_run else outcome("prune", "repository")


def show_report(report: PruneReport) -> None:
    """What a prune did, for people."""
    would = "would be " if report.dry_run else ""
    text.show(
        f"{report.packs_before} packs, {text.size(report.bytes_before)}, "
        f"of which {text.size(report.bytes_unused)} unused"
    )
    text.show(
        f"{would}deleted: {report.packs_deleted} packs, {report.packs_orphaned} left by broken uploads; "
        f"{would}rewritten: {report.packs_repacked}; {text.size(report.bytes_freed)} freed "
        f"in {text.seconds(report.seconds)}"
    )
    if report.packs_fresh:
        text.show(f"left alone: {report.packs_fresh} packs without an index that are too young")
