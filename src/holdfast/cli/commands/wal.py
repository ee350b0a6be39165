"""`holdfast wal`: set up, receive, ship, look at and fetch the WAL of PostgreSQL servers."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import text
from holdfast.cli.options import Access, repository_options
from holdfast.cli.waltext import show_setup, show_shipped, show_status
from holdfast.errors import HoldfastError, WalAtRisk, WalMissing, WalNotReady

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.model.wal_state import Finding
    from holdfast.services.shipping import ShipReport
    from holdfast.services.wal import WalSource
    from holdfast.services.wal_expiry import WalExpiryReport
    from holdfast.services.wal_run import WalRunner

ABORT = 126
"""Exit code for a restore_command: from here on PostgreSQL does not take it for the end of the archive."""


@click.group()
def command() -> None:
    """Archive the WAL of PostgreSQL servers, for recovery to any instant."""


def _choose(function: Any) -> Any:
    function = click.option("--source", metavar="NAME", help="Only this source.")(function)
    return click.option("--stack", "stacks", multiple=True, metavar="NAME", help="Only this stack.")(function)


def _sources(access: Access, stacks: tuple[str, ...], source: str | None) -> tuple[Config, list[WalSource]]:
    from holdfast.services.wal import wal_sources

    config, chosen = access.stacks(stacks)
    return config, wal_sources(config, chosen, source)


@command.command(short_help="Show what the servers need; with --apply make it so.")
@repository_options
@_choose
@click.option("--apply", "apply", is_flag=True, help="Change what can be changed without a restart.")
def setup(access: Access, stacks: tuple[str, ...], source: str | None, apply: bool) -> None:
    """Show what the servers need for WAL archiving; with --apply make it so. Never restarts a server."""
    from holdfast.services.wal_setup import setup as set_up

    config, sources = _sources(access, stacks, source)
    reports = [set_up(config, found, apply=apply) for found in sources]
    if access.json:
        text.show_json(reports)
    for report in () if access.json else reports:
        show_setup(report)
    unready = [report for report in reports if not report.ready]
    if unready:
        names = ", ".join(need.name for need in unready[0].requirements if not need.met and not need.advice)
        if unready[0].restart:
            needed = ", ".join(unready[0].restart)
            hint = f"restart the server when it suits (needed for {needed}), then again: holdfast wal setup"
        else:
            hint = "holdfast wal setup --apply"
        raise WalNotReady("the server is not ready for WAL archiving", which=unready[0].source, found=names, hint=hint)


@command.command()
@repository_options
@_choose
def ship(access: Access, stacks: tuple[str, ...], source: str | None) -> None:
    """Ship once what waits in the spools."""
    from holdfast.services.access import open_repository_at
    from holdfast.services.shipping import Shipper
    from holdfast.services.stacks import access_of
    from holdfast.services.wal import archive_of, ask_cluster

    config, sources = _sources(access, stacks, source)
    reports: list[ShipReport] = []
    with open_repository_at(access_of(config)) as repository:
        for found in sources:
            system = found.spool.owner() or ask_cluster(config, found).system
            shipper = Shipper(archive_of(repository, system), found.spool, receiving=found.receiving)
            report = shipper.ship()
            reports.append(report)
            if not access.json:
                show_shipped(found, report)
    if access.json:
        text.show_json([_without_error(report) for report in reports])
    for report in reports:
        if report.error is not None:
            raise report.error


def _without_error(report: ShipReport) -> dict[str, Any]:
    return {name: getattr(report, name) for name in report.__struct_fields__ if name != "error"}


@command.command()
@repository_options
@_choose
@click.option("--no-base", is_flag=True, help="Only tell of a gap; take no new base backup.")
def run(access: Access, stacks: tuple[str, ...], source: str | None, no_base: bool) -> None:
    """Receive and ship until stopped; look at everything once a minute. A gap begins a new base backup."""
    _run(access, stacks, source, base=not no_base)


@command.command(short_help="As run, over slots only, without base backups.")
@repository_options
@_choose
def receive(access: Access, stacks: tuple[str, ...], source: str | None) -> None:
    """As `run`, for sources that receive over a slot; takes no base backups."""
    _run(access, stacks, source, base=False)


def _tell_only(source: WalSource, findings: list[Finding]) -> None:
    text.tell(f"holdfast: {source.spec.label}: {findings[0].text}; {findings[0].hint}")


def _run(access: Access, stacks: tuple[str, ...], source: str | None, *, base: bool) -> None:
    from holdfast.services.access import open_repository_at
    from holdfast.services.stacks import access_of, back_up
    from holdfast.services.wal_run import WalRunner

    config, sources = _sources(access, stacks, source)
    stop = threading.Event()

    def take_base(found: WalSource, findings: list[Finding]) -> None:
        names = ", ".join(sorted({finding.name for finding in findings}))
        text.tell(f"holdfast: {found.spec.label}: {names}: taking a new base backup")
        with open_repository_at(access_of(config)) as own:
            back_up(config, own, found.stack, now=lambda: datetime.now(UTC))

    with open_repository_at(access_of(config)) as repository:
        runners = [WalRunner(config, repository, found, on_gap=take_base if base else _tell_only) for found in sources]
        _run_all(runners, stop)


def _tell_started(source: WalSource) -> None:
    text.tell(f"holdfast: archiving the WAL of {source.spec.label} through {source.wal.spool}; stop with Ctrl-C")


def _run_all(runners: list[WalRunner], stop: threading.Event) -> None:
    """Each in a thread of its own, until stopped. Raises: what ended one of them, when all have ended."""
    failed: list[HoldfastError] = []

    def work(runner: WalRunner) -> None:
        try:
            runner.run(stop, started=_tell_started)
        except HoldfastError as error:  # only a spool that is not ours to work on ends a loop
            failed.append(error)
            stop.set()

    # Not Thread.join: a signal that interrupts it makes Python take the thread for ended, and nothing waits for it.
    with ThreadPoolExecutor(max(1, len(runners)), "wal") as pool:
        works = [pool.submit(work, runner) for runner in runners]
        try:
            wait(works)
        except KeyboardInterrupt:
            text.tell("holdfast: stopping, shipping what has come")
        finally:
            stop.set()
            wait(works)
    for done in works:
        done.result()
    if failed:
        raise failed[0]


@command.command(short_help="Show what is archived and recoverable, and what is wrong.")
@repository_options
@_choose
def status(access: Access, stacks: tuple[str, ...], source: str | None) -> None:
    """Show what is archived, what could be recovered, what a disaster now would cost, and what is wrong."""
    from holdfast.services.access import open_repository_at
    from holdfast.services.stacks import access_of
    from holdfast.services.wal_status import wal_status

    config, sources = _sources(access, stacks, source)
    with open_repository_at(access_of(config)) as repository:
        found = [wal_status(config, repository, one, now=datetime.now(UTC)) for one in sources]
    if access.json:
        text.show_json(found)
    for one in () if access.json else found:
        show_status(one)
    critical = [finding for one in found for finding in one.findings if finding.critical]
    if critical:
        names = ", ".join(sorted({finding.name for finding in critical}))
        raise WalAtRisk("recovery is endangered", found=names, hint=critical[0].hint)


@command.command()
@repository_options
@click.option("--dry-run", is_flag=True, help="Only show what would go, and why.")
def expire(access: Access, dry_run: bool) -> None:
    """Delete the WAL that no base backup and no recovery window needs."""
    reports = expire_by_configuration(access, dry_run=dry_run)
    if access.json:
        text.show_json(reports)


def expire_by_configuration(access: Access, *, dry_run: bool) -> list[WalExpiryReport]:
    """Expire WAL by the windows of the configuration, and tell people. Raises: as `services.wal_expiry`."""
    from holdfast.services.access import open_repository_at
    from holdfast.services.stacks import access_of
    from holdfast.services.wal_expiry import expire_wal, windows_of

    config = access.config()
    with open_repository_at(access_of(config)) as repository:
        reports = expire_wal(repository, windows_of(config), dry_run=dry_run)
    for report in () if access.json else reports:
        would = "would be " if dry_run else ""
        freed = f"{text.files(report.files_removed)} {would}removed, {text.size(report.bytes_freed)} freed"
        text.show(f"WAL of cluster {report.system}: {freed}")
        for line in report.lines:
            text.show(f"  {line}")
    return reports


@command.command(short_help="Fetch one WAL file: the restore_command.")
@repository_options
@click.option("--system", required=True, metavar="ID", help="The cluster's system identifier.")
@click.option("--timeline", type=click.IntRange(min=1), help="Only what belongs to the history of this timeline.")
@click.option("--ahead", metavar="DIR", type=click.Path(file_okay=False), help="Fetch the next segments to here, too.")
@click.argument("name")
@click.argument("target", type=click.Path(dir_okay=False))
def get(access: Access, system: str, timeline: int | None, ahead: str | None, name: str, target: str) -> None:
    """Fetch one WAL file, as a restore_command: holdfast wal get --system ID %f "%p".

    With --ahead a server that replays much gets the next 256 MiB with the file that it asks for, and takes them from
    there: restore_command = 'mv DIR/%f "%p" 2>/dev/null || holdfast wal get --system ID --ahead DIR %f "%p"'.

    Exit status 1 means that the archive does not hold it, 126 that it could not be fetched: PostgreSQL goes on after
    the first and stops at the second.
    """
    from holdfast.services.wal_ahead import fetch_with_next
    from holdfast.services.wal_restore import fetch

    try:
        with access.open() as repository:
            if ahead is None:
                fetch(repository, system, name, os.path.abspath(target), timeline=timeline)
            else:
                fetch_with_next(
                    repository, system, name, os.path.abspath(target), os.path.abspath(ahead), timeline=timeline
                )
    except WalMissing as error:
        text.tell(f"holdfast: {error}")
        raise click.exceptions.Exit(1) from error
    except HoldfastError as error:
        text.tell(f"holdfast: error: {error}")
        raise click.exceptions.Exit(ABORT) from error
