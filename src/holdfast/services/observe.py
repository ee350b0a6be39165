"""What the monitor sees: restore points, proofs, verifications, volumes, filesystems. It only looks.

Rules upheld here:
- A part that cannot be seen is a finding of its own, and the others are looked at all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.fields import length, share
from holdfast.config.labels import read_labels
from holdfast.errors import EngineUnavailable, HoldfastError
from holdfast.model.monitor import Finding, Severity
from holdfast.model.snapshot import RestorePoint, restore_points
from holdfast.policy.cadence import tolerated_age
from holdfast.policy.freshness import Seen, Wanted, judge_stack, judge_verification
from holdfast.policy.served import Origin
from holdfast.repository.repository import Repository
from holdfast.services.history import witnesses
from holdfast.services.proofs import ProofRecord, proofs, verifications
from holdfast.services.security import examine_containers
from holdfast.services.stacks import needs_engine
from holdfast.store.url import LocalUrl, parse_url

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.config.stack import Stack
    from holdfast.engine.client import Engine


CANARY = "holdfast-canary"
"""The stack of the canary (`services.canary`)."""


class Filesystem(msgspec.Struct, frozen=True, kw_only=True):
    """One filesystem: bytes, and the share of its inodes that is used."""

    path: str
    total: float
    used: float
    inodes: float


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in the repository; `origins` of every stack that has snapshots, also where nobody asked for it."""

    stacks: tuple[Seen, ...]
    findings: tuple[Finding, ...]
    heads: tuple[str, ...]
    origins: dict[str, Origin]


def observe_repository(
    config: Config, repository: Repository, now: datetime, promised: Mapping[str, Wanted]
) -> Observed:
    """Every stack of which something is wanted, the verifications, the chain of proofs. Raises: the store's errors."""
    listed = repository.snapshots()
    found = proofs(repository, witnesses=witnesses(repository))
    points = restore_points(listed.snapshots)
    seen = tuple(
        _seen(
            name,
            [point for point in points if point.stack == name],
            [record for record in found.records if record.proof.stack == name],
        )
        for name in promised
    )
    findings = [f for view in seen for f in judge_stack(promised[view.stack], view, now)]
    findings += _verification(config, repository, now)
    findings += [_tampered(line) for line in found.problems]
    findings += [_damaged(str(error.which)) for error in listed.damaged]
    origins = {p.stack: Origin(host=p.snapshots[-1].hostname, time=p.time) for p in points if p.stack}
    return Observed(stacks=seen, findings=tuple(findings), heads=found.heads, origins=origins)


def all_wanted(config: Config, now: datetime) -> dict[str, Wanted]:
    """What was promised of each stack of the configuration, and of the canary."""
    names = (*config.stacks, *([CANARY] if config.canary else ()))
    return {name: wanted_of(config, name, now) for name in names}


def wanted_of(config: Config, name: str, now: datetime) -> Wanted:
    """What was promised of a stack: its own thresholds, else those that follow from its schedules."""
    stack: Stack | None = config.stacks.get(name)
    own = stack.monitor if stack else None
    if stack is None:  # the canary: one cycle is backup and drill
        due = tolerated_age(config.canary.cron, config.canary.timezone, now) if config.canary else None
        return Wanted(backup_within=due, proven_within=due, shrunk=1.0)

    def within(given: str | None, schedule: object) -> float | None:
        if given:
            return length(given)
        cron, zone = getattr(schedule, "cron", None), getattr(schedule, "timezone", "UTC")
        return tolerated_age(cron, zone, now) if cron else None

    return Wanted(
        backup_within=within(own.backup_within if own else None, stack.schedule),
        proven_within=within(own.proven_within if own else None, stack.drill),
        rto=length(own.rto) if own and own.rto else None,
        shrunk=share(own.shrunk if own else "50%"),
    )


def _seen(name: str, points: Sequence[RestorePoint], drills: Sequence[ProofRecord]) -> Seen:
    whole = [point for point in points if point.complete]
    newest = drills[-1].proof if drills else None
    passed = [record.proof for record in drills if record.proof.proven]
    return Seen(
        stack=name,
        newest=whole[-1].time if whole else None,
        last_proven=passed[-1].finished if passed else None,
        failed_drill=None if newest is None or newest.passed else newest.error or next(iter(newest.problems), "failed"),
        rto=passed[-1].rto_seconds if passed else None,
        size=whole[-1].size if whole else None,
        size_before=whole[-2].size if len(whole) > 1 else None,
        remedy="holdfast canary" if name == CANARY else "",
        incomplete_since=points[-1].time if points and not points[-1].complete else None,
    )


def _verification(config: Config, repository: Repository, now: datetime) -> Iterator[Finding]:
    done = verifications(repository)
    good = [record.finished for record in done if not record.problems]
    if config.monitor.verified_within:
        within: float | None = length(config.monitor.verified_within)
    else:
        within = tolerated_age(config.verify.cron, config.verify.timezone, now) if config.verify else None
    yield from judge_verification(good[-1] if good else None, done[-1].problems if done else 0, within, now)


def _tampered(line: str) -> Finding:
    return Finding(
        kind="proof-removed-or-altered",
        subject=line.partition(":")[0],
        severity=Severity.CRITICAL,
        found=line,
        wanted="every proof as it was written",
        hint="holdfast proofs",
    )


def _damaged(which: str) -> Finding:
    return Finding(
        kind="snapshot-damaged",
        subject=which,
        severity=Severity.CRITICAL,
        found="its record cannot be read",
        wanted="a whole snapshot",
        hint="holdfast verify --read-data",
    )


def unreachable(kind: str, subject: str, error: HoldfastError) -> Finding:
    """The finding for a part that cannot be seen."""
    return Finding(
        kind=kind,
        subject=subject,
        severity=Severity.CRITICAL,
        found=str(error),
        hint=error.hint or "holdfast doctor",
        area="reach",
    )


def observe_engine(config: Config, *, labelled: bool = False) -> tuple[list[Finding], dict[str, float], str | None]:
    """Unprotected volumes as findings, sizes of volumes, and the folder that the engine fills where it is local.

    An engine that does not answer is a finding where a stack needs it, and where labels enabled some (`labelled`).
    """
    from holdfast.engine.client import connect

    needed = labelled or needs_engine(config)
    try:
        with connect(config.engine.url) as engine:
            findings = [*_unprotected(config, engine), *examine_containers(engine)]
            return findings, _volume_sizes(engine), _root_of(engine)
    except EngineUnavailable as error:
        return ([unreachable("engine-unreachable", "engine", error)] if needed else []), {}, None


def _unprotected(config: Config, engine: Engine) -> Iterator[Finding]:
    """Volumes that a container has and no stack. Anonymous ones count: databases hide in them."""
    from holdfast.engine.sandbox import LABEL
    from holdfast.engine.volumes import containers_using, find_volume, volume_names

    known = {volume.name for stack in config.stacks.values() for volume in stack.volumes}
    databases = {server.container for stack in config.stacks.values() for server in stack.postgres}
    for name in volume_names(engine):
        try:
            volume = find_volume(engine, name)
        except HoldfastError:
            continue  # it went while we looked
        users = [use.container for use in containers_using(engine, volume)]
        on_purpose = read_labels(volume.labels, "volume", name).values.get("enable") is False
        if name in known or LABEL in volume.labels or on_purpose or not users or set(users) <= databases:
            continue
        yield Finding(
            kind="volume-unprotected",
            subject=name,
            severity=Severity.WARNING,
            found=f"no stack has it; container {', '.join(users)} writes to it",
            wanted="every volume that is used in a stack",
            hint='label it holdfast.enable="true", or name it in the configuration; holdfast plan says more',
            area="engine",
        )


def _volume_sizes(engine: Engine) -> dict[str, float]:
    """Bytes of each volume, as the engine counts them, of images and of containers' own layers."""
    with engine.asking("cannot ask for the usage of space"):
        usage = engine.api.df()
    sizes = {
        f"volume-bytes {volume['Name']}": float(volume["UsageData"]["Size"])
        for volume in usage.get("Volumes") or ()
        if (volume.get("UsageData") or {}).get("Size", -1) >= 0
    }
    sizes["engine-images-bytes"] = float(usage.get("LayersSize") or 0)
    sizes["engine-containers-bytes"] = float(sum(c.get("SizeRw") or 0 for c in usage.get("Containers") or ()))
    return sizes


def _root_of(engine: Engine) -> str | None:
    return str(engine.info().get("DockerRootDir") or "") or None if engine.same_machine() else None


def observe_filesystems(config: Config, engine_root: str | None) -> list[Filesystem]:
    """The filesystems that fill up: the engine's, that of a local repository, that of temporary files."""
    place = parse_url(config.repository.url)
    paths = [engine_root, place.path if isinstance(place, LocalUrl) else None]
    found: dict[int, Filesystem] = {}
    for path in filter(None, paths):
        if os.path.isdir(path):
            status = os.statvfs(path)
            found.setdefault(
                os.stat(path).st_dev,
                Filesystem(
                    path=path,
                    total=float(status.f_blocks * status.f_frsize),
                    used=float((status.f_blocks - status.f_bavail) * status.f_frsize),
                    inodes=1 - status.f_favail / status.f_files if status.f_files else 0.0,
                ),
            )
    return list(found.values())
