"""A base backup as a part of a restore point: recovered to its own end, in a new volume beside what is there.

Rules upheld here:
- The restore point is what was backed up together: the database comes back as it was at the end of its base backup. Any
  other instant is a recovery of its own (`holdfast restore STACK --source NAME --at …`).
- Nothing is replaced: a server's data directory cannot be exchanged under it.
"""

from __future__ import annotations

from holdfast.config.models import Config
from holdfast.config.postgres import Postgres
from holdfast.errors import RestoreError
from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.snapshot import RestorePoint, Snapshot
from holdfast.repository.repository import Repository
from holdfast.services.bases import base_facts_of, is_base
from holdfast.services.combining import combiner
from holdfast.services.pitr import restore_pitr
from holdfast.services.pitr_plan import plan_for
from holdfast.services.restore import OnProgress, RestoreReport, open_snapshot
from holdfast.services.stacks import engine_of

RECOVER = "recover the base backup into the new volume"


def is_base_snapshot(repository: Repository, snapshot: Snapshot) -> bool:
    """Whether a database's snapshot is a base backup. Raises: CorruptObject, the store's errors."""
    return is_base(open_snapshot(repository, snapshot).manifest)


def plan_base_volume(spec: Postgres, point: RestorePoint) -> str:
    """The name of the volume that it goes to. Raises: RestoreError for a server outside Docker."""
    if spec.container is None:
        raise RestoreError(
            "a base backup of a server outside Docker goes into a directory",
            which=spec.label,
            hint=f"holdfast restore {point.stack} --source {spec.name} --latest --to DIR",
        )
    return f"{point.stack}-{spec.name}-restored-{point.id.lower()}"


def restore_base_volume(
    config: Config, repository: Repository, snapshot: Snapshot, volume: str, on_progress: OnProgress | None
) -> RestoreReport:
    """Recover it. Raises: WalMissing when its own WAL is not whole, RestoreError, TargetNotEmpty."""
    import msgspec

    from holdfast.services.pitr_volume import restore_to_volume

    manifest = open_snapshot(repository, snapshot).manifest
    if manifest is None:
        raise RestoreError("the manifest of the base backup cannot be read", which=snapshot.short_id)
    facts = base_facts_of(manifest)
    target = RecoveryTarget(TargetKind.CONSISTENT, timeline=facts.timeline)
    planned = plan_for(repository, snapshot, facts, target)
    with engine_of(config) as engine:
        combine = combiner(engine)
        report = restore_to_volume(
            config,
            planned,
            volume,
            lambda directory: restore_pitr(
                repository, planned, directory, combine=combine, on_progress=on_progress, here=False
            ),
        )
    note = f"a server of {facts.image or 'the same version'} started on it recovers by itself; archiving is off in it"
    notes = (*report.restore.notes, *report.notes, note)
    return msgspec.structs.replace(report.restore, target=f"volume {volume}", notes=notes)
