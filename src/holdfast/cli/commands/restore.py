"""`holdfast restore`: a snapshot into a directory, or a stack of the configuration to its place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.cli.recovery import Recovery, recovery_options
from holdfast.cli.restored import end, folder_name, show_report
from holdfast.services.choosing import chosen_snapshots
from holdfast.services.restore import RestoreReport, restore_directory

if TYPE_CHECKING:
    from holdfast.repository.repository import Repository


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for on the command line."""

    what: str
    target: str | None
    point: str
    source: str | None
    patterns: tuple[str, ...]
    to_volume: str | None
    in_place: bool
    stack: str | None
    replace: bool
    delta: bool
    dry_run: bool

    @property
    def is_part(self) -> bool:
        """Whether only a part of a snapshot is meant."""
        return bool(self.patterns or self.to_volume or self.in_place)


@click.command()
@repository_options
@click.argument("what", default="latest")
@click.option(
    "--to",
    "target",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Directory to restore into: empty or missing.",
)
@click.option("--point", default="latest", show_default=True, metavar="POINT", help="With a stack: the restore point.")
@click.option("--source", metavar="NAME", help="Only this source, as `holdfast list` shows it: volume:app-data.")
@click.option(
    "--include",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Only what matches, with all below (etc/**, *.conf).",
)
@click.option("--to-volume", metavar="NAME", help="Restore into a new Docker volume of this name.")
@click.option("--in-place", is_flag=True, help="With --include: replace what matches in the source's own place.")
@click.option("--stack", metavar="NAME", help="Restore this stack of the configuration: its volumes and databases.")
@click.option("--replace", is_flag=True, help="Replace what is there; it is kept until the new data is whole.")
@click.option(
    "--delta", is_flag=True, help="With --to: bring a directory that holds an older copy up to date in place."
)
@click.option("--dry-run", is_flag=True, help="With --stack, --delta or a recovery target: show what would be done.")
@recovery_options
def command(access: Access, recovery: Recovery | None, **options: Any) -> None:
    """Restore WHAT: a stack, or with --to a snapshot, a restore point, a stack's newest one, or `latest`.

    A stack is made again from what its restore point knows of it: images, networks, volumes, containers, data and
    databases, started, healthy and compared. A host that has nothing but Docker is enough. What is there stays
    untouched until the new is whole, and nothing is replaced without --replace. With --stack only the data is
    restored, to the places that the configuration names.

    With --to it goes into a directory, and needs nothing but the repository and its password. A restore point of
    several sources gives one directory each below it.

    With --delta the directory may hold an older, partial or damaged copy: what is right of it is only read, the rest
    is fetched, and what the snapshot has not is removed. It can be run again after a kill.

    With a recovery target WHAT is a stack: restore shop --source db --at "2026-11-23 10:00:00+00" brings a database's
    base backup and its WAL into a new volume, or a directory (--to), ready to start and recover to that instant.
    """
    asked = Asked(**options)
    if recovery is not None:
        _recover(access, recovery, asked)
    elif asked.target is not None and asked.stack is not None:
        raise click.UsageError("--to names a directory, --stack restores to its place: not both")
    elif asked.delta:
        _delta(access, asked)
    elif asked.is_part:
        _part(access, asked)
    elif asked.target is not None:
        with access.open() as repository:
            end(
                access, _to_directory(repository, access, asked.what, asked.target, asked.source, replace=asked.replace)
            )
    elif asked.stack is not None:
        from holdfast.cli.stack import restore_stack

        restore_stack(access, asked.stack, asked.what, replace=asked.replace, dry_run=asked.dry_run)
    else:
        _rebuild(access, asked)


def _recover(access: Access, recovery: Recovery, asked: Asked) -> None:
    if asked.replace or asked.is_part:
        raise click.UsageError("a recovery never replaces anything: it goes into a new volume or directory (--to)")
    from holdfast.cli.pitr import recover

    recover(access, recovery, asked.stack or asked.what, asked.source, to=asked.target, dry_run=asked.dry_run)


def _part(access: Access, asked: Asked) -> None:
    places = sum((asked.target is not None, asked.to_volume is not None, asked.in_place))
    if asked.stack is not None or asked.replace or asked.dry_run or places != 1:
        raise click.UsageError("a part goes to one place: --to DIR, --to-volume NAME, or --in-place")
    from holdfast.cli.parts import restore_part

    restore_part(access, asked.what, asked.source, asked.patterns, target=asked.target, volume=asked.to_volume)


def _rebuild(access: Access, asked: Asked) -> None:
    if asked.what == "latest":
        raise click.UsageError("say what: holdfast restore STACK; or where to: --to DIR")
    from holdfast.cli.rebuilding import rebuild_stack

    rebuild_stack(access, asked.what, asked.point, replace=asked.replace, dry_run=asked.dry_run)


def _delta(access: Access, asked: Asked) -> None:
    if asked.target is None or asked.is_part:
        raise click.UsageError("--delta needs a directory that holds a copy, and brings all of it: --to DIR")
    if asked.what == "latest" and asked.source is None:
        raise click.UsageError("--delta changes a directory in place, so say what to: a snapshot, or also --source")
    from holdfast.cli.delta import restore_in_place

    restore_in_place(access, asked.what, asked.source, asked.target, dry_run=asked.dry_run, anything=asked.replace)


def _to_directory(
    repository: Repository, access: Access, what: str, target: str, source: str | None, *, replace: bool
) -> list[RestoreReport]:
    listed = repository.snapshots()
    for error in listed.damaged:
        text.tell(f"holdfast: damaged: {error}")
    chosen = chosen_snapshots(listed.snapshots, what, source)
    reports = []
    progress = text.Progress(quiet=access.json)
    for snapshot in chosen:
        into = target if len(chosen) == 1 else os.path.join(target, folder_name(snapshot.source))
        report = restore_directory(
            repository,
            snapshot,
            into,
            replace=replace,
            on_progress=lambda done: progress.update(f"{text.files(done.files)}, {text.size(done.bytes)}"),
        )
        progress.clear()
        reports.append(report)
        if not access.json:
            show_report(report)
    return reports
