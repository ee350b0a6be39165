"""`holdfast backup`: stacks of the configuration, or plain directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.errors import ConfigError
from holdfast.model.snapshot import PATHS

if TYPE_CHECKING:
    from holdfast.repository.file_capture import TreeStats
    from holdfast.services.backup import BackupReport, OnProgress

INCOMPLETE = 3
"""Exit code: a snapshot was made, files that could not be read are missing from it (restic's meaning of 3)."""

_SHOWN = 50


@click.command()
@repository_options
@click.argument("names", nargs=-1, metavar="[STACK]...")
@click.option("--path", "paths", multiple=True, metavar="DIR", help="Back up this directory; no configuration needed.")
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="With --path: leave out what matches (*.tmp, cache/**)."
)
@click.option("--stack", "stacks", multiple=True, metavar="NAME", help="Only this stack; the same as naming it.")
@click.option("--allow-empty", is_flag=True, help="Accept a source that is empty and was not last time.")
def command(
    access: Access,
    names: tuple[str, ...],
    paths: tuple[str, ...],
    exclude: tuple[str, ...],
    stacks: tuple[str, ...],
    allow_empty: bool,
) -> int:
    """Back up, into one restore point per stack: the named stacks, else those of the configuration and of labels.

    A stack that is only found (a Compose project) needs a repository and an engine, and no configuration.
    """
    stacks = (*names, *stacks)
    if paths and stacks:
        raise click.UsageError("--path names directories, the others are stacks: not both")
    if exclude and not paths:
        raise click.UsageError("--exclude goes with --path; for a stack it stands in the configuration")
    progress = text.Progress(quiet=access.json)

    def on_progress(source: str, stats: TreeStats) -> None:
        progress.update(f"{source}: {text.files(stats.files)}, {text.size(stats.bytes)}")

    if paths:
        reports = [_back_up_paths(access, paths, exclude, allow_empty, on_progress)]
    else:
        from holdfast.cli.stack import back_up_stacks

        def show(report: BackupReport) -> None:
            progress.clear()
            if not access.json:
                show_report(report)

        reports = back_up_stacks(access, stacks, allow_empty=allow_empty, on_progress=on_progress, show=show)
    progress.clear()
    if access.json:
        text.show_json(reports)
    elif paths:
        show_report(reports[0])
    return INCOMPLETE if any(report.incomplete for report in reports) else 0


def _back_up_paths(
    access: Access,
    paths: tuple[str, ...],
    exclude: tuple[str, ...],
    allow_empty: bool,
    on_progress: OnProgress,
) -> BackupReport:
    from holdfast.services.backup import take_backup
    from holdfast.sources.tree import TreeSource

    full = [os.path.abspath(path) for path in paths]
    if len(set(full)) < len(full):
        raise ConfigError("one directory is named twice", which=", ".join(paths))
    with access.open(beside=True) as repository:
        return take_backup(
            repository,
            PATHS,
            [TreeSource(path, label=f"path:{path}", exclude=exclude) for path in full],
            allow_empty=allow_empty,
            on_progress=on_progress,
        )


def show_report(report: BackupReport) -> None:
    """What a backup did, for people."""
    for source in report.sources:
        text.show(
            f"{source.source}: snapshot {source.snapshot[:8]}: {source.files_new} new, {source.files_changed} changed, "
            f"{source.files_unmodified} unmodified files; {text.size(source.bytes_processed)} seen, "
            f"{text.size(source.bytes_added)} new, {text.size(source.bytes_stored)} stored "
            f"in {text.seconds(source.seconds)}"
        )
        if source.held:
            held = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in source.held.items())
            text.show(f"  held: {held}; {text.files(source.reread)} read meanwhile")
        for line in source.notes[:_SHOWN]:
            text.show(f"  note: {line}")
        if len(source.notes) > _SHOWN:
            text.show(f"  note: … and {len(source.notes) - _SHOWN} more (--json shows all)")
    text.show(f"restore point {report.point} of {report.stack} in {text.seconds(report.seconds)}")
    if report.incomplete:
        text.tell(f"holdfast: {text.files(report.incomplete)} could not be read, not in the backup (exit code 3)")
