"""A base backup's way back into its server's data directory, recovered to the instant of the restore point.

Rules upheld here:
- Where the stack's volumes were held, the recovery goes to the restore point that was made then: database and volumes
  belong together again. Where that is not archived, or nothing was held, it goes to the end of the base backup, and a
  note says so.
- The data directory is written beside what is there, as every other tree, and swapped in with them.
- Recovered means promoted, the canary found, the rows compared where the target lies behind them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from holdfast.engine.client import Engine
from holdfast.engine.discovery import find_container
from holdfast.engine.exec import ContainerRunner
from holdfast.engine.sandbox import container_log
from holdfast.errors import HoldfastError, RecoveryFailed, RestoreError, TargetOutOfRange, WalMissing
from holdfast.model.base import BaseFacts, RecoveryTarget, TargetKind
from holdfast.model.snapshot import Snapshot
from holdfast.model.wal import Lsn
from holdfast.policy.rebuild import data_place
from holdfast.postgres.recovered import prove_base, wait_recovered
from holdfast.postgres.server import container_server
from holdfast.repository.repository import Repository
from holdfast.services.bases import base_facts_of, is_base
from holdfast.services.combining import combiner
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import PitrPlan, plan_for
from holdfast.services.placement import Placement
from holdfast.services.restore import OnProgress, RestoreReport, open_snapshot
from holdfast.sources.frozen import sync_filesystem


@dataclass(frozen=True, slots=True)
class BaseTarget:
    """One base backup: its recovery, and where its data directory lies: a volume or a path, and the way below."""

    planned: PitrPlan
    facts: BaseFacts
    source: str
    below: str
    note: str = ""


def base_target(
    repository: Repository, snapshot: Snapshot, others: Iterable[Snapshot], mounts: dict[str, str]
) -> BaseTarget | None:
    """The way back of a snapshot; None when it is no base backup. `mounts` are the container's (`mounts_of`).

    Raises: RestoreError when its data directory lies in no volume, WalMissing when not even its own WAL is whole.
    """
    manifest = open_snapshot(repository, snapshot).manifest
    if manifest is None or not is_base(manifest):
        return None
    facts = base_facts_of(manifest)
    place = data_place(mounts, facts.directory)
    if place is None:
        raise RestoreError(
            "the data directory of a server lies in no volume of its container",
            which=snapshot.source,
            found=facts.directory,
            hint=f"holdfast restore {snapshot.stack} --source {snapshot.source.partition(':')[2]} --latest --to DIR",
        )
    point = _point_of(repository, snapshot.source, others)
    planned, note = _plan(repository, snapshot, facts, point)
    return BaseTarget(planned, facts, *place, note)


def _point_of(repository: Repository, label: str, others: Iterable[Snapshot]) -> tuple[str, Lsn] | None:
    """The restore point that was made while the stack's volumes were held, as one of them tells."""
    for other in others:
        manifest = open_snapshot(repository, other).manifest
        freeze = manifest.facts.get("freeze") if manifest else None
        found = freeze.get("restore_points", {}).get(label) if isinstance(freeze, dict) else None
        if found:
            return str(found["name"]), Lsn.parse(str(found["lsn"]))
    return None


def _plan(
    repository: Repository, snapshot: Snapshot, facts: BaseFacts, point: tuple[str, Lsn] | None
) -> tuple[PitrPlan, str]:
    note = ""
    if point is not None:
        name, lsn = point
        try:
            planned = plan_for(
                repository, snapshot, facts, RecoveryTarget(TargetKind.LSN, lsn=lsn, timeline=facts.timeline)
            )
        except (TargetOutOfRange, WalMissing) as error:
            note = f"recovered to the end of the base backup, not to the instant of the volumes: {error}"
        else:
            # By its place the needed WAL is known; by its name PostgreSQL stops exactly there.
            target = RecoveryTarget(TargetKind.NAME, text=name, timeline=facts.timeline)
            return msgspec.structs.replace(planned, plan=dataclasses.replace(planned.plan, target=target)), ""
    target = RecoveryTarget(TargetKind.CONSISTENT, timeline=facts.timeline)
    return plan_for(repository, snapshot, facts, target), note


class BasePlacement(Placement):
    """A data directory on its way to its place: base backup, WAL and recovery settings."""

    def __init__(self, path: str, planned: PitrPlan, engine: Engine) -> None:
        super().__init__(path)
        self._planned, self._combine = planned, combiner(engine)

    def prepare(self, repository: Repository, snapshot: Snapshot, on_progress: OnProgress | None) -> RestoreReport:  # noqa: ARG002  the plan has it
        """Write it beside. Raises: as `restore_pitr`."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        report = restore_pitr(
            repository, self._planned, self.new, combine=self._combine, on_progress=on_progress, here=False
        )
        sync_filesystem(os.fsencode(self.new))
        return report.restore


def await_recovery(engine: Engine, container: str, target: BaseTarget) -> tuple[str, list[str]]:
    """Wait until the started server is recovered; what was compared, and each difference. Raises: RecoveryFailed."""
    runner = ContainerRunner(engine, container)
    try:
        server = wait_recovered(
            lambda: container_server(runner, user=target.facts.user, password=None, image=None),
            lambda: "",  # its log may have failures of earlier days
            alive=lambda: find_container(engine, container).running,
        )
    except RecoveryFailed as error:
        raise RecoveryFailed(
            "the server did not recover", which=container, found=_last_words(engine, container) or error.found
        ) from error
    words, problems = prove_base(target.facts, server, target.planned.plan.target.kind)
    return f"recovered to {target.planned.plan.target}; {words}", problems


def _last_words(engine: Engine, container: str) -> str:
    try:
        lines = [line for line in container_log(engine, container).splitlines() if "FATAL" in line or "PANIC" in line]
    except HoldfastError:
        return ""
    return lines[-1] if lines else ""
