"""The drill: restore a restore point in a sandbox, compare it with what was backed up, destroy it, keep the proof.

Rules upheld here:
- The comparison is exact: every entry and byte of a tree against the snapshot's own record, every table of a database
  against the rows and digests taken in the very transaction of its dump.
- The proof is stored whether it passed or not; one that could not be finished says why.
- Space and memory are looked at first. With too little space a sample is read back instead, and the proof says so.
- What takes too long is ended, and is a failed drill.
- The sandbox is destroyed in every case; what a killed drill left is reaped by the next.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from holdfast.config.checks import Drill, SqlCheck
from holdfast.config.fields import length
from holdfast.config.models import Config
from holdfast.errors import DrillFailed, HoldfastError, SnapshotNotFound
from holdfast.model.manifest import Manifest
from holdfast.model.proof import CheckResult, Proof, SourceProof, Step
from holdfast.model.snapshot import RestorePoint, Snapshot, restore_points
from holdfast.policy.lineage import host_of, lineages, own_lineage
from holdfast.policy.room import DATABASE_FACTOR, too_little_memory, too_little_space
from holdfast.repository.repository import Repository
from holdfast.services.bounded import bounded
from holdfast.services.compare import compare_directory
from holdfast.services.proofs import store_proof
from holdfast.services.restore import SnapshotData, open_snapshot, reading, restore_directory
from holdfast.services.sampling import read_sample
from holdfast.services.sandboxes import Sandboxes, memory_available, sandboxes_of
from holdfast.services.stacks import stack_of

_KEPT_PROBLEMS = 100


def choose_point(
    repository: Repository,
    stack: str,
    point: str = "latest",
    *,
    host: str | None = None,
    strict: bool = True,
    choose: Callable[[Sequence[RestorePoint]], RestorePoint] = secrets.choice,
) -> RestorePoint:
    """The restore point to work on: by its id, `latest` (newest whole one) or `random` (any whole one).

    Where several hosts have a stack of the name it is one of `host`'s, which is this one unless it is given.
    Raises: SnapshotNotFound, with `strict` also where such a `host` has none: else it may be another's.
    """
    points = [p for p in restore_points(repository.snapshots().snapshots) if p.stack == stack]
    whole = point in ("latest", "random")
    wanted = [p for p in points if p.complete] if whole else [p for p in points if p.id == point]
    if not wanted:
        raise SnapshotNotFound(
            "the stack has no such restore point",
            which=f"{stack} {point}",
            wanted="a whole restore point" if whole else "its id",
            found=f"{len(points)} restore points of this stack",
            hint="holdfast list",
        )
    if whole:
        wanted = _of_host(stack, wanted, host or socket.gethostname(), strict=strict)
    return choose(wanted) if point == "random" else wanted[-1]


def _of_host(stack: str, points: list[RestorePoint], host: str, *, strict: bool) -> list[RestorePoint]:
    """What is one host's, where several have a stack of the name: the other's data is never taken for it."""
    apart = lineages(points)
    own = own_lineage(apart, host)
    if own is None and not strict:
        return points
    if own is None:
        newest = "; ".join(f"{host_of(lineage[-1])}: {lineage[-1].id}" for lineage in apart)
        raise SnapshotNotFound(
            "several hosts have a stack of this name, and none of them is this one",
            which=f"{stack} on {host}",
            found=newest,
            hint="name the restore point: --point",
        )
    return own


def share_for(point: str) -> float | None:
    """How far into its window a drill recovers to: anywhere, where the restore point is chosen at random, too."""
    return secrets.SystemRandom().random() if point == "random" else None


def drill_source(
    config: Config, repository: Repository, snapshot: Snapshot, *, share: float | None = None
) -> SourceProof:
    """Restore one snapshot in a sandbox of its own, compare, ask, destroy.

    `share` (0 to 1): where WAL is archived, recover to an instant so far between the base and the archive's end.
    Raises: EngineUnavailable, TargetFull and others when it could not be restored at all, DrillFailed when it took too
    long; differences are in the proof.
    """
    stack = stack_of(config, snapshot.stack or "")
    limit = length(stack.drill.timeout if stack.drill else Drill.model_fields["timeout"].default)
    checks = [check for check in stack.checks.sql if snapshot.source == f"postgres:{check.postgres}"]
    with bounded(limit, snapshot.source), sandboxes_of(config) as sandboxes:
        return prove_snapshot(repository, snapshot, sandboxes, checks, share=share)


def prove_snapshot(
    repository: Repository,
    snapshot: Snapshot,
    sandboxes: Sandboxes,
    checks: Sequence[SqlCheck] = (),
    *,
    share: float | None = None,
) -> SourceProof:
    """`drill_source` with the place to restore to given. Where there is too little room, a sample is read instead."""
    with reading(repository):
        data = open_snapshot(repository, snapshot)
    is_database = data.manifest is not None and data.manifest.kind == "postgres"
    lacking = too_little_space(_room(repository, snapshot, data, is_database=is_database), sandboxes.free_space())
    if lacking:
        return _prove_sample(repository, snapshot, data, lacking)
    if data.manifest is not None and is_database:
        from holdfast.services.bases import is_base

        if is_base(data.manifest):
            return _prove_base(repository, snapshot, data.manifest, sandboxes, checks, share)
        return _prove_database(repository, snapshot, data, data.manifest, sandboxes, checks)
    return _prove_tree(repository, snapshot, data, sandboxes)


def _room(repository: Repository, snapshot: Snapshot, data: SnapshotData, *, is_database: bool) -> float:
    """The bytes that a restore takes; of an incremental base backup with those below it."""
    size = snapshot.size or 0
    if data.manifest is not None and data.manifest.facts.get("builds_on"):
        from holdfast.services.bases import size_of_chain

        size = size_of_chain(repository, snapshot, data.manifest)
    return size * (DATABASE_FACTOR if is_database else 1)


def _prove_sample(repository: Repository, snapshot: Snapshot, data: SnapshotData, lacking: str) -> SourceProof:
    started = time.monotonic()
    with reading(repository):
        compared, problems = read_sample(repository, data)
    seconds = time.monotonic() - started
    proof = _source_proof(snapshot, compared, [Step("read a sample", seconds)], problems)
    return msgspec.structs.replace(proof, sampled=f"too little space to restore it: {lacking}")


def conclude(
    repository: Repository,
    point: RestorePoint,
    sources: Sequence[SourceProof],
    *,
    started: datetime,
    finished: datetime,
    sandbox: str = "",
    error: HoldfastError | None = None,
    checks: Sequence[CheckResult] = (),
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
        rpo_seconds=max(
            (max(0.0, (started - (source.recoverable_until or point.time)).total_seconds()) for source in sources),
            default=(started - point.time).total_seconds(),
        ),
        sources=tuple(sources),
        sandbox=sandbox,
        error=None if error is None else str(error),
        checks=tuple(checks),
    )
    return store_proof(repository, proof)[1]


def _prove_tree(repository: Repository, snapshot: Snapshot, data: SnapshotData, sandboxes: Sandboxes) -> SourceProof:
    with sandboxes.directory() as directory:
        started = time.monotonic()
        report = restore_directory(repository, snapshot, directory)
        seconds = time.monotonic() - started
        compared = compare_directory(repository.reader, data, os.fsencode(directory))
    steps = [Step("restore", seconds)]
    return _source_proof(snapshot, str(compared), steps, [*report.damaged, *compared.problems])


def _prove_database(
    repository: Repository,
    snapshot: Snapshot,
    data: SnapshotData,
    manifest: Manifest,
    sandboxes: Sandboxes,
    checks: Sequence[SqlCheck],
) -> SourceProof:
    from holdfast.services.checks import sql_checks
    from holdfast.services.databases import facts_of, load_dump, prove_dump

    lacking = too_little_memory(memory_available())
    if lacking:
        raise DrillFailed("a scratch database cannot be started", which=snapshot.source, found=lacking)
    facts = facts_of(manifest)
    began = time.monotonic()
    with sandboxes.postgres(facts) as server:
        started = time.monotonic()
        load_dump(repository, data, server)
        loaded = time.monotonic()
        compared, problems = prove_dump(facts, server)
        asked = sql_checks(server, checks)
    steps = [Step("start a server", started - began), Step("load", loaded - started)]
    return msgspec.structs.replace(_source_proof(snapshot, compared, steps, problems), checks=asked)


def _prove_base(
    repository: Repository,
    snapshot: Snapshot,
    manifest: Manifest,
    sandboxes: Sandboxes,
    checks: Sequence[SqlCheck],
    share: float | None,
) -> SourceProof:
    from holdfast.services.base_drill import drill_base

    drilled = drill_base(repository, snapshot, manifest, sandboxes.engine, checks, share)
    steps = [Step("recover", drilled.seconds)]
    proof = _source_proof(snapshot, drilled.compared, steps, drilled.problems)
    return msgspec.structs.replace(
        proof,
        recoverable_until=drilled.until,
        checks=drilled.checks,
        instant=drilled.instant,
        reached=drilled.reached,
    )


def _source_proof(snapshot: Snapshot, compared: str, steps: Sequence[Step], problems: Sequence[str]) -> SourceProof:
    kept = [*problems[:_KEPT_PROBLEMS]]
    if len(problems) > len(kept):
        kept.append(f"… and {len(problems) - len(kept)} more")
    return SourceProof(
        source=snapshot.source,
        snapshot=snapshot.id,
        compared=compared,
        restore_seconds=sum(step.seconds for step in steps),
        steps=tuple(steps),
        problems=tuple(kept),
    )


def drill(
    config: Config, repository: Repository, stack: str, point: str = "latest", *, now: Callable[[], datetime]
) -> Proof:
    """Prove a restore point: every source of it, one after the other. The proof is stored, passed or not.

    Raises: ConfigError, SnapshotNotFound; everything that goes wrong later is in the proof.
    """
    stack_of(config, stack)
    chosen = choose_point(repository, stack, point, host=config.hostname, strict=False)
    started = now()
    sources: list[SourceProof] = []
    failure: HoldfastError | None = None
    for snapshot in chosen.snapshots:
        try:
            sources.append(drill_source(config, repository, snapshot, share=share_for(point)))
        except HoldfastError as error:
            failure = error
            break
    asked = () if failure else ask_applications(config, repository, chosen)
    return conclude(repository, chosen, sources, started=started, finished=now(), error=failure, checks=asked)


def ask_applications(config: Config, repository: Repository, point: RestorePoint) -> tuple[CheckResult, ...]:
    """The commands and requests that the configuration wants of restored volumes."""
    from holdfast.services.checks import application_checks

    try:
        return application_checks(config, repository, point)
    except HoldfastError as error:
        return (CheckResult(name="applications", found="", problem=str(error)),)
