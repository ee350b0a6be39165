"""The drill: restore a restore point in a sandbox, compare it with what was backed up, destroy it, keep the proof.

Rules upheld here:
- The comparison is exact: every entry and byte of a tree against the snapshot's own record, every table of a database
  against the rows and digests taken in the very transaction of its dump.
- The proof is stored whether it passed or not; one that could not be finished says why.
- The sandbox is destroyed in every case; what a killed drill left is reaped by the next.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from holdfast.config.models import Config
from holdfast.errors import HoldfastError, SnapshotNotFound
from holdfast.model.manifest import Manifest
from holdfast.model.proof import Proof, SourceProof
from holdfast.model.snapshot import RestorePoint, Snapshot, restore_points
from holdfast.repository.repository import Repository
from holdfast.services.compare import compare_directory
from holdfast.services.proofs import store_proof
from holdfast.services.restore import SnapshotData, open_snapshot, reading, restore_directory
from holdfast.services.sandboxes import Sandboxes, sandboxes_of
from holdfast.services.stacks import stack_of

_KEPT_PROBLEMS = 100


def choose_point(repository: Repository, stack: str, point: str = "latest") -> RestorePoint:
    """The restore point to work on: by its id, or the newest whole one. Raises: SnapshotNotFound."""
    points = [p for p in restore_points(repository.snapshots().snapshots) if p.stack == stack]
    wanted = [p for p in points if p.complete] if point == "latest" else [p for p in points if p.id == point]
    if not wanted:
        raise SnapshotNotFound(
            "the stack has no such restore point",
            which=f"{stack} {point}",
            wanted="a whole restore point" if point == "latest" else "its id",
            found=f"{len(points)} restore points of this stack",
            hint="holdfast list",
        )
    return wanted[-1]


def drill_source(config: Config, repository: Repository, snapshot: Snapshot) -> SourceProof:
    """Restore one snapshot in a sandbox of its own, compare, destroy.

    Raises: EngineUnavailable, TargetFull and others when it could not be restored at all; differences are in the proof.
    """
    with sandboxes_of(config) as sandboxes:
        return prove_snapshot(repository, snapshot, sandboxes)


def prove_snapshot(repository: Repository, snapshot: Snapshot, sandboxes: Sandboxes) -> SourceProof:
    """`drill_source` with the place to restore to given."""
    with reading(repository):
        data = open_snapshot(repository, snapshot)
    if data.manifest is not None and data.manifest.kind == "postgres":
        return _prove_database(repository, snapshot, data, data.manifest, sandboxes)
    return _prove_tree(repository, snapshot, data, sandboxes)


def conclude(
    repository: Repository,
    point: RestorePoint,
    sources: Sequence[SourceProof],
    *,
    started: datetime,
    finished: datetime,
    sandbox: str = "",
    error: HoldfastError | None = None,
) -> Proof:
    """Make the proof of a drill and store it beside the backups."""
    proof = Proof(
        id=f"{finished:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        stack=point.stack,
        point=point.id,
        point_time=point.time,
        started=started,
        finished=finished,
        rto_seconds=sum(source.restore_seconds for source in sources),
        rpo_seconds=(started - point.time).total_seconds(),
        sources=tuple(sources),
        sandbox=sandbox,
        error=None if error is None else str(error),
    )
    return store_proof(repository, proof)[1]


def _prove_tree(repository: Repository, snapshot: Snapshot, data: SnapshotData, sandboxes: Sandboxes) -> SourceProof:
    with sandboxes.directory() as directory:
        started = time.monotonic()
        report = restore_directory(repository, snapshot, directory)
        seconds = time.monotonic() - started
        compared = compare_directory(repository.reader, data, os.fsencode(directory))
    return _source_proof(snapshot, str(compared), seconds, [*report.damaged, *compared.problems])


def _prove_database(
    repository: Repository, snapshot: Snapshot, data: SnapshotData, manifest: Manifest, sandboxes: Sandboxes
) -> SourceProof:
    from holdfast.services.databases import facts_of, load_dump, prove_dump

    facts = facts_of(manifest)
    with sandboxes.postgres(facts) as server:
        started = time.monotonic()
        load_dump(repository, data, server)
        seconds = time.monotonic() - started
        compared, problems = prove_dump(facts, server)
    return _source_proof(snapshot, compared, seconds, problems)


def _source_proof(snapshot: Snapshot, compared: str, seconds: float, problems: Sequence[str]) -> SourceProof:
    kept = [*problems[:_KEPT_PROBLEMS]]
    if len(problems) > len(kept):
        kept.append(f"… and {len(problems) - len(kept)} more")
    return SourceProof(
        source=snapshot.source,
        snapshot=snapshot.id,
        compared=compared,
        restore_seconds=seconds,
        problems=tuple(kept),
    )


def drill(
    config: Config, repository: Repository, stack: str, point: str = "latest", *, now: Callable[[], datetime]
) -> Proof:
    """Prove a restore point: every source of it, one after the other. The proof is stored, passed or not.

    Raises: ConfigError, SnapshotNotFound; everything that goes wrong later is in the proof.
    """
    stack_of(config, stack)
    chosen = choose_point(repository, stack, point)
    started = now()
    sources: list[SourceProof] = []
    failure: HoldfastError | None = None
    for snapshot in chosen.snapshots:
        try:
            sources.append(drill_source(config, repository, snapshot))
        except HoldfastError as error:
            failure = error
            break
    return conclude(repository, chosen, sources, started=started, finished=now(), error=failure)
