"""The drill of a base backup: restored, recovered past its canary, promoted, checked, compared, destroyed.

Rules upheld here:
- The recovery goes to the restore point that was made after the rows were recorded; where that is not archived, to the
  backup's own end, and the proof says so. Where an instant is wanted it is any of those that the archive promises: the
  canary has to be there, the structure whole, and nothing of what was committed later.
- The copy runs from the recorded image on the sandbox's network, or as a local server of exactly its version; it
  archives nothing.
- The time that is proven is from the first byte fetched to the first answer of the promoted server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from holdfast.config.checks import SqlCheck
from holdfast.errors import RecoveryFailed, TargetOutOfRange, WalMissing
from holdfast.model.base import BaseFacts, RecoveryTarget, TargetKind
from holdfast.model.manifest import Manifest
from holdfast.model.proof import CheckResult
from holdfast.model.snapshot import Snapshot
from holdfast.model.wal import Lsn
from holdfast.policy.recovery import instant_within
from holdfast.postgres.recovered import last_replayed, prove_base, wait_recovered
from holdfast.postgres.recovery_settings import make_conf_for_drill
from holdfast.postgres.scratch import recovering_server
from holdfast.postgres.server import Server, container_server
from holdfast.repository.repository import Repository
from holdfast.services.bases import base_facts_of
from holdfast.services.checks import sql_checks
from holdfast.services.combining import combiner
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import PitrPlan, plan_for

if TYPE_CHECKING:
    from holdfast.engine.client import Engine
    from holdfast.engine.sandbox import Sandbox

_INSIDE = "/holdfast-drill"

Start = Callable[[list[str]], Server]
Log = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Drilled:
    """What was compared, in words; the seconds that the recovery took; the differences.

    `until` is the last commit that a recovery could have reached: what the archive held then.
    """

    compared: str
    seconds: float
    problems: list[str]
    until: datetime | None
    checks: tuple[CheckResult, ...] = ()
    instant: datetime | None = None
    reached: datetime | None = None


def drill_base(
    repository: Repository,
    snapshot: Snapshot,
    manifest: Manifest,
    engine: Engine | None,
    checks: Sequence[SqlCheck] = (),
    share: float | None = None,
) -> Drilled:
    """Prove one base backup, and ask the user's questions.

    `share` (0 to 1): prove an instant instead, so far between the base and the last commit that is archived.
    Raises: WalMissing when its WAL is not whole, RecoveryFailed, and what restoring raises.
    """
    facts = base_facts_of(manifest)
    planned, note = plan_drill(repository, snapshot, facts, share)
    target = planned.plan.target
    with _place(engine, facts) as (directory, start, log):
        started = time.monotonic()
        report = restore_pitr(
            repository, planned, directory, combine=combiner(engine), here=not _in_container(engine, facts)
        )
        server = start(make_conf_for_drill(directory, facts))
        seconds = time.monotonic() - started
        reached = last_replayed(log())
        compared, problems = prove_base(facts, server, target.kind)
        asked = sql_checks(server, checks)
    parts = f"combined of {1 + len(planned.below)} base backups, " if planned.below else ""
    wal = f"{parts}recovered over {report.wal_files} WAL files to {target}"
    if target.time is not None:
        wal += f", last commit {reached.isoformat(sep=' ') if reached else 'not told'}"
        problems += [f"committed after the target: {reached}"] if reached and reached > target.time else []
    until = planned.plan.possible.until
    return Drilled(f"{wal}; {compared}{note}", seconds, problems, until, asked, target.time, reached)


def plan_drill(
    repository: Repository, snapshot: Snapshot, facts: BaseFacts, share: float | None = None
) -> tuple[PitrPlan, str]:
    """The recovery that proves a base: past its canary where that is archived, else to its end.

    With `share` to an instant behind the canary, where the archive goes that far.
    Raises: WalMissing when not even its own WAL is whole.
    """
    if facts.canary is not None:
        lsn = Lsn.parse(facts.canary.lsn)
        target = RecoveryTarget(TargetKind.LSN, lsn=lsn, timeline=facts.timeline)
        try:
            planned = plan_for(repository, snapshot, facts, target)
        except (TargetOutOfRange, WalMissing):
            pass  # the next best target is the backup's own end; the note below says so
        else:
            instant = instant_within(planned.plan.possible, facts.canary.time, share) if share is not None else None
            if instant is None:
                return planned, "" if share is None else "; no later instant: nothing was committed after the canary"
            target = RecoveryTarget(TargetKind.TIME, time=instant, timeline=facts.timeline)
            return plan_for(repository, snapshot, facts, target), ""
    target = RecoveryTarget(TargetKind.CONSISTENT, timeline=facts.timeline)
    note = "; no rows compared: the canary's WAL is not archived" if facts.canary else "; no canary: from a standby"
    return plan_for(repository, snapshot, facts, target), note


def _in_container(engine: Engine | None, facts: BaseFacts) -> bool:
    return engine is not None and facts.image is not None


@contextmanager
def _place(engine: Engine | None, facts: BaseFacts) -> Iterator[tuple[str, Start, Log]]:
    if engine is None or facts.image is None:  # as `_in_container` tells
        options: list[str] = []
        with recovering_server(facts.version, facts.user, options) as (directory, start, log):

            def begin(more: list[str]) -> Server:
                options.extend([*more, "-c", f"hba_file={directory}/holdfast_hba.conf"])
                options.extend(["-c", f"config_file={directory}/postgresql.conf"])
                options.extend(["-c", f"ident_file={directory}/pg_ident.conf"])
                return start()

            yield directory, begin, log
        return
    with _container_place(engine, facts, facts.image) as place:
        yield place


@contextmanager
def _container_place(engine: Engine, facts: BaseFacts, image: str) -> Iterator[tuple[str, Start, Log]]:
    from holdfast.engine.sandbox import Sandbox

    with Sandbox(engine) as sandbox:
        yield _place_in(engine, sandbox, facts, image)


def join_base(
    engine: Engine, sandbox: Sandbox, repository: Repository, snapshot: Snapshot, manifest: Manifest, names: list[str]
) -> None:
    """Have a base backup answer in a sandbox, recovered to its own end, under the names that others there know.

    It lets in whom its own pg_hba.conf lets in, as that came back with it. Raises: as `drill_base`, and SourceNotFound
    where its image is not there.
    """
    facts = base_facts_of(manifest)
    target = RecoveryTarget(TargetKind.CONSISTENT, timeline=facts.timeline)
    planned = plan_for(repository, snapshot, facts, target)
    directory, start, _ = _place_in(engine, sandbox, facts, facts.image or "", names)
    restore_pitr(repository, planned, directory, combine=combiner(engine), here=False)
    start(make_conf_for_drill(directory, facts, for_others=True))


def _place_in(
    engine: Engine, sandbox: Sandbox, facts: BaseFacts, image: str, called: Sequence[str] = ()
) -> tuple[str, Start, Log]:
    """A directory to restore to, what starts a server on it, and its log; `called` is what others may reach it by."""
    from holdfast.engine.discovery import find_container
    from holdfast.engine.exec import ContainerRunner
    from holdfast.engine.sandbox import container_log

    volume = sandbox.volume("base")
    if not os.path.isdir(volume.mountpoint):
        raise RecoveryFailed(
            "the sandbox's volume cannot be written from here",
            which=volume.name,
            hint="run the drill as root on the Docker host",
        )
    names: list[str] = []

    def begin(options: list[str]) -> Server:
        inside = f"{_INSIDE}/data"
        files = [f"{name}_file={inside}/{file}" for name, file in _FILES.items()]
        command = ["postgres", *options, *(part for file in files for part in ("-c", file))]
        command += ["-c", f"listen_addresses={'*' if called else '127.0.0.1'}", "-c", "port=5432"]
        command += ["-c", "unix_socket_directories=/var/run/postgresql"]
        name = sandbox.container(
            "db",
            image,
            settings={"environment": {"PGDATA": inside}, "command": command},
            binds=[(volume.name, _INSIDE)],
            names=called,
        )
        names.append(name)
        runner = ContainerRunner(engine, name)
        return wait_recovered(
            lambda: container_server(
                runner, user=facts.user, password=None, image=image, address=("--host", "/var/run/postgresql")
            ),
            lambda: container_log(engine, name),
            alive=lambda: find_container(engine, name).running,
        )

    return os.path.join(volume.mountpoint, "data"), begin, lambda: container_log(engine, names[-1])


_FILES = {"hba": "holdfast_hba.conf", "config": "postgresql.conf", "ident": "pg_ident.conf"}
