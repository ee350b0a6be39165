"""`holdfast restore STACK --source NAME --at …`: recovery to an instant."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import click

from holdfast.cli import text
from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from holdfast.cli.options import Access
    from holdfast.cli.recovery import Recovery
    from holdfast.model.base import BaseFacts, RecoveryTarget
    from holdfast.services.combining import Combine
    from holdfast.services.pitr import PitrReport
    from holdfast.services.pitr_plan import PitrPlan
_THEN = {
    "promote": "then is a server of its own",
    "pause": "then waits for reading; SELECT pg_wal_replay_resume() makes it a server of its own",
    "shutdown": "then shuts down, as often as it is started, until its recovery settings are changed",
}

T = TypeVar("T")

_SUCH_AS = {"--at": '"2026-11-23 10:00:00+00"', "--lsn": "0/3000060"}


def _target_of(asked: Recovery) -> RecoveryTarget:
    """The target that the options name. Raises: click.UsageError for more than one, or one that cannot be read."""
    from holdfast.model.base import RecoveryTarget, TargetKind
    from holdfast.model.wal import Lsn
    from holdfast.services.pitr_plan import parse_time

    inclusive = not asked.exclusive
    given = [f"--{name}" for name in ("at", "lsn", "xid", "name", "latest") if getattr(asked, name)]
    if len(given) > 1:
        raise click.UsageError(f"one target, not {' and '.join(given)}")
    if asked.at:
        return RecoveryTarget(
            TargetKind.TIME, time=_read(parse_time, "--at", asked.at), timeline=asked.timeline, inclusive=inclusive
        )
    if asked.lsn:
        return RecoveryTarget(
            TargetKind.LSN, lsn=_read(Lsn.parse, "--lsn", asked.lsn), timeline=asked.timeline, inclusive=inclusive
        )
    if asked.xid:
        if not asked.xid.isdecimal():
            raise click.BadParameter(f"{asked.xid}; wanted a number, such as --xid 731")
        return RecoveryTarget(TargetKind.XID, text=asked.xid, timeline=asked.timeline, inclusive=inclusive)
    if asked.name:
        return RecoveryTarget(TargetKind.NAME, text=asked.name, timeline=asked.timeline)
    return RecoveryTarget(TargetKind.LATEST, timeline=asked.timeline)


def _read(parse: Callable[[str], T], option: str, text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}, wanted such as {_SUCH_AS[option]}", param_hint=option) from error


def recover(
    access: Access,
    asked: Recovery,
    stack: str,
    source: str | None,
    *,
    to: str | None,
    dry_run: bool,
) -> None:
    """Plan, show, and unless it is a dry run carry out. Raises: click.UsageError; as `services.pitr`."""
    from holdfast.services.pitr import restore_pitr
    from holdfast.services.pitr_plan import plan_pitr

    target = _target_of(asked)
    if to is not None and asked.volume is not None:
        raise click.UsageError("--to DIR or --volume NAME, not both")
    if source is None:
        raise click.UsageError("say which database: --source NAME, as holdfast list shows it")
    with access.open() as repository, ExitStack() as engines:
        planned = plan_pitr(repository, stack, source, target, action=asked.action, system=asked.system)
        if not access.json:
            text.show(f"recovery of {planned.source} of {stack}:")
            for line in planned.lines:
                text.show(f"  {line}")
        if dry_run:
            if access.json:
                text.show_json({"plan": planned.lines})
            return
        tablespaces = _tablespaces(asked.tablespaces)
        command = _restore_command(access, planned) if asked.on_demand else None
        progress = text.Progress(quiet=access.json)

        def write(directory: str) -> PitrReport:
            return restore_pitr(
                repository,
                planned,
                directory,
                restore_command=command,
                tablespaces=tablespaces,
                combine=_combiner(access, engines),
                on_progress=lambda done: progress.update(f"{text.files(done.files)}, {text.size(done.bytes)}"),
                here=to is not None,
            )

        if to is not None:
            report, place = write(to), to
        else:
            report, place = _into_volume(access, planned, asked.volume, write)
        progress.clear()
    if access.json:
        text.show_json(report)
        return
    _show(planned, report, place, to)


def _tablespaces(given: tuple[str, ...]) -> dict[int, str]:
    """`16399=/data/fast` as oid and directory. Raises: click.BadParameter."""
    found = {}
    for text_of in given:
        oid, _, directory = text_of.partition("=")
        if not oid.isdigit() or not directory:
            raise click.BadParameter(f"{text_of}; wanted OID=DIR, such as 16399=/data/fast", param_hint="--tablespace")
        found[int(oid)] = directory
    return found


def _into_volume(
    access: Access, planned: PitrPlan, volume: str | None, write: Callable[[str], PitrReport]
) -> tuple[PitrReport, str]:
    from holdfast.services.pitr_volume import restore_to_volume

    if access.config_path is None:
        raise ConfigError(
            "a volume needs a configuration that names the engine", wanted="--config FILE, or --to DIR for a directory"
        )
    source, moment = planned.source.partition(":")[2], datetime.now(UTC)
    name = volume or f"{planned.stack}-{source}-recovered-{moment:%Y%m%dt%H%M%S}"
    return restore_to_volume(access.config(), planned, name, write), f"volume {name}"


def _combiner(access: Access, engines: ExitStack) -> Combine:
    """What combines incremental backups: in the server's image only when this machine has no program for it."""
    from holdfast.services.combining import combine_here, combiner
    from holdfast.services.stacks import engine_of

    def combine(facts: BaseFacts, parts: Sequence[str], target: str) -> None:
        if access.config_path is None or facts.image is None:
            combine_here(facts, parts, target)
            return
        combiner(engines.enter_context(engine_of(access.config())))(facts, parts, target)

    return combine


def _restore_command(access: Access, planned: PitrPlan) -> str:
    """Fetches files with this very program, which then has to be at hand where the server runs.

    It brings the next ones along: starting it for each would take longer than replaying one.
    """
    from holdfast.postgres.recovery_settings import WAL_FOLDER

    fixed = [os.path.abspath(sys.argv[0]), "wal", "get"]
    if access.config_path is not None:
        fixed += ["--config", os.path.abspath(access.config_path)]
    get = f"{shlex.join(fixed)} --system {planned.facts.system} --timeline {planned.plan.history.timeline}"
    return f'mv "{WAL_FOLDER}/%f" "%p" 2>/dev/null || {get} --ahead {WAL_FOLDER} %f "%p"'


def _show(planned: PitrPlan, report: PitrReport, place: str, to: str | None) -> None:
    restored = report.restore
    text.show(
        f"restored to {place}: {text.files(restored.files)}, {text.size(restored.bytes)}, "
        f"and {report.wal_files} WAL files, "
        f"{text.size(report.wal_bytes)}, in {text.seconds(report.seconds)}"
    )
    for note in (*restored.notes, *report.notes):
        text.show(f"  note: {note}")
    start = f"start {planned.facts.image} on it"
    if not planned.facts.image or to is not None:
        start = f"pg_ctl -D {report.directory} start"
    text.show(f"next: {start}; it recovers by itself, {_THEN[planned.action]}")
    text.show("archiving is off in it: once it takes over, holdfast wal setup --apply and a new holdfast backup")
