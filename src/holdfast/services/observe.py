"""What the monitor sees: restore points, proofs, verifications. It only looks.

Rules upheld here:
- A part that cannot be seen is a finding of its own, and the others are looked at all the same.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.fields import length, share
from holdfast.errors import HoldfastError
from holdfast.model.monitor import Finding, Severity
from holdfast.model.snapshot import CANARY, RestorePoint, restore_points
from holdfast.policy.cadence import tolerated_age
from holdfast.policy.freshness import Seen, SourceSeen, Wanted, judge_stack, judge_verification
from holdfast.policy.lineage import lineages, own_lineage
from holdfast.policy.served import Origin
from holdfast.policy.trends import TREND_DAYS, Series, backed_up
from holdfast.repository.repository import Repository
from holdfast.services.history import witnesses
from holdfast.services.proofs import ProofRecord, Verification, proofs, verifications

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.config.stack import Stack


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in the repository; `origins` of every stack that has snapshots, also where nobody asked for it.

    `counted` is what the backups counted, by measure (`policy.trends.backed_up`).
    """

    stacks: tuple[Seen, ...]
    findings: tuple[Finding, ...]
    heads: tuple[str, ...]
    origins: dict[str, Origin]
    counted: dict[str, Series]
    verified: datetime | None = None


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
            _of_this_host([point for point in points if point.stack == name], config.hostname or socket.gethostname()),
            [record for record in found.records if record.proof.stack == name],
        )
        for name in promised
    )
    findings = [f for view in seen for f in judge_stack(promised[view.stack], view, now)]
    done = verifications(repository)
    good = [record.finished for record in done if not record.problems]
    findings += _verification(config, done, good, now)
    findings += [_tampered(line) for line in found.problems]
    findings += [_damaged(str(error.which)) for error in listed.damaged]
    origins = {p.stack: Origin(host=p.snapshots[-1].hostname, time=p.time) for p in points if p.stack}
    return Observed(
        stacks=seen,
        findings=tuple(findings),
        heads=found.heads,
        origins=origins,
        counted=backed_up(points, promised, now - timedelta(days=TREND_DAYS)),
        verified=good[-1] if good else None,
    )


def _of_this_host(points: list[RestorePoint], host: str) -> list[RestorePoint]:
    """What is this host's, where several have a stack of the name: the other's backups must not pass for its own."""
    own = own_lineage(lineages(points), host) if points else None
    return points if own is None else own


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
        rpo=passed[-1].rpo_seconds if passed else None,
        size=whole[-1].size if whole else None,
        files=whole[-1].files if whole else None,
        size_before=whole[-2].size if len(whole) > 1 else None,
        remedy="holdfast canary" if name == CANARY else "",
        incomplete_since=points[-1].time if points and not points[-1].complete else None,
        sources=_sources(points),
    )


def _sources(points: Sequence[RestorePoint]) -> tuple[SourceSeen, ...]:
    """Every source that the newest whole restore point has, or a later one."""
    first = max((number for number, point in enumerate(points) if point.complete), default=0)
    newest = {snapshot.source: snapshot for point in points[first:] for snapshot in point.snapshots}
    return tuple(
        SourceSeen(source=source, newest=snapshot.time, size=snapshot.size, files=snapshot.files)
        for source, snapshot in sorted(newest.items())
    )


def _verification(
    config: Config, done: Sequence[Verification], good: Sequence[datetime], now: datetime
) -> Iterator[Finding]:
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
