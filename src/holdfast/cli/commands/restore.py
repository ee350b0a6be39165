"""`holdfast restore`: a snapshot into a directory, or a stack of the configuration to its place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.cli.recovery import Recovery, recovery_options
from holdfast.errors import CorruptObject, SnapshotNotFound
from holdfast.model.snapshot import Snapshot
from holdfast.policy.meant import snapshots_meant
from holdfast.services.restore import RestoreReport, restore_directory

if TYPE_CHECKING:
    from holdfast.repository.repository import Repository
    from holdfast.services.delta import DeltaReport

_SHOWN = 50


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
@click.option("--to", "target", type=click.Path(file_okay=False), help="Directory to restore into: empty or missing.")
@click.option("--point", default="latest", show_default=True, help="With a stack: the restore point.")
@click.option("--source", help="Only this source, as `holdfast list` shows it: volume:app-data.")
@click.option(
    "--include",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Only what matches, with all below (etc/**, *.conf).",
)
@click.option("--to-volume", metavar="NAME", help="Restore into a new Docker volume of this name.")
@click.option("--in-place", is_flag=True, help="With --include: replace what matches in the source's own place.")
@click.option("--stack", help="Restore this stack of the configuration: its volumes and databases.")
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

        end(access, restore_stack(access, asked.stack, asked.what, replace=asked.replace, dry_run=asked.dry_run))
    else:
        _rebuild(access, asked)


def _recover(access: Access, recovery: Recovery, asked: Asked) -> None:
    if asked.replace or asked.is_part:
        raise click.UsageError("a recovery never replaces anything: it goes into a new volume or directory (--to)")
    recovery.run(access, asked.stack or asked.what, asked.source, to=asked.target, dry_run=asked.dry_run)


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


def end(access: Access, reports: Sequence[RestoreReport | DeltaReport]) -> None:
    """Show what was done as JSON where that was asked for. Raises: CorruptObject when something was lost."""
    if access.json:
        text.show_json(reports)
    damaged = [line for report in reports for line in report.damaged]
    if damaged:
        raise CorruptObject(
            f"{len(damaged)} entries could not be restored, everything else was",
            which=reports[0].target,
            found=damaged[0],
            hint="an older snapshot may have them whole: holdfast list",
        )


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
    chosen = choose(listed.snapshots, what, source)
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


def choose(snapshots: tuple[Snapshot, ...], what: str, source: str | None) -> list[Snapshot]:
    """The snapshots that WHAT means; of ids only one. Raises: SnapshotNotFound."""
    found = snapshots_meant(snapshots, what, source)
    if len(found) > 1 and what not in ("latest", found[0].stack, found[0].point):
        ids = ", ".join(snapshot.id[:16] for snapshot in found[:4])
        raise SnapshotNotFound("more than one snapshot begins so", which=what, found=ids, hint="holdfast list")
    return found


def folder_name(source: str) -> str:
    """A directory name for a source: `volume:app-data` → `volume-app-data`."""
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in source).strip("-.") or "source"


def show_report(report: RestoreReport) -> None:
    """What was restored, for people."""
    text.show(
        f"restored {report.source} ({report.snapshot[:8]}) to {report.target}: {text.files(report.files)}, "
        f"{text.size(report.bytes)} in {text.seconds(report.seconds)}"
    )
    for title, lines in (("lost", report.damaged), ("note", report.notes)):
        for line in lines[:_SHOWN]:
            text.show(f"  {title}: {line}")
        if len(lines) > _SHOWN:
            text.show(f"  {title}: … and {len(lines) - _SHOWN} more (--json shows all)")
