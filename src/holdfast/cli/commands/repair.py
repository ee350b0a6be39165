"""`holdfast repair`: make the repository's own records whole again where they can be."""

from __future__ import annotations

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options

PARTIAL = 3


@click.group()
def command() -> None:
    """Mend what can be mended without the lost bytes: the index, from the packs' own headers."""


@command.command("index")
@repository_options
@click.option(
    "--read-all-packs", is_flag=True, help="Read every pack's header, not only of packs that the index lacks."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def index_command(access: Access, read_all_packs: bool, dry_run: bool) -> int:
    """Make the index anew from the packs; damaged index files go. Nobody else may work meanwhile."""
    from holdfast.services.repair import repair_index

    with access.open() as repository:
        report = repair_index(repository, read_all=read_all_packs, dry_run=dry_run)
    if access.json:
        text.show_json(report)
        return PARTIAL if report.lost else 0
    would = "would be " if dry_run else ""
    text.show(
        f"index: {text.files(report.files_kept)} kept, {report.files_replaced} {would}replaced; "
        f"{report.packs_read} of {text.many(report.packs, 'pack')} told what they hold"
    )
    for line in report.lost:
        text.show(f"lost: {line}")
    text.show("next: holdfast verify" + (" names the files that this costs" if report.lost else ""))
    return PARTIAL if report.lost else 0
