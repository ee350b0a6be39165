"""Reconciling: what the server wrote, what the spool holds, what the archive has, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from holdfast.config.fields import length, share
from holdfast.config.monitor import Thresholds
from holdfast.errors import (
    CorruptObject,
    DatabaseUnavailable,
    EngineUnavailable,
    HoldfastError,
    WalMissing,
    WalNotReady,
)
from holdfast.model.base import BaseBackup
from holdfast.model.wal import Lsn, WalKind
from holdfast.model.wal_state import Disk, Finding, Limits, Replica, ServerWal, SpoolState, StandbyLag
from holdfast.policy.recovery import is_recoverable, ranges
from holdfast.policy.recovery_targets import LastCommit
from holdfast.policy.wal import Stock, gaps, runs
from holdfast.policy.wal_findings import Exposure, Seen, exposure, findings, newest_reach
from holdfast.postgres.cluster import Cluster, describe_cluster
from holdfast.postgres.wal_server import ask_wal
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.bases import bases_of
from holdfast.services.databases import server_of
from holdfast.services.spool import Waiting
from holdfast.services.wal import WalSource, archive_of
from holdfast.services.wal_reading import commit_reader, name_of

if TYPE_CHECKING:
    from holdfast.config.models import Config


class TimelineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One timeline of the archive: its whole stretches and what is missing between them, as names."""

    timeline: int
    stretches: tuple[str, ...]
    gaps: tuple[str, ...]
    segments: int


class BaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One base backup: whether its own WAL is whole, and the range that it can be recovered to.

    `builds_on` counts the base backups below an incremental one; `lost` tells that one of them is gone.
    """

    point: str
    snapshot: str
    stopped: datetime
    recoverable: bool
    range: str
    lost: bool = False
    builds_on: int = 0


class WalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One source's WAL at one instant. `disk` is that of the server's pg_wal, `standby` its own lag where it is one."""

    stack: str
    source: str
    system: str | None
    server_lsn: str | None
    server_timeline: int | None
    exposure: Exposure
    timelines: tuple[TimelineStatus, ...]
    bases: tuple[BaseStatus, ...]
    findings: tuple[Finding, ...]
    spool_files: int = 0
    spool_bytes: int = 0
    disk: Disk = Disk()
    replicas: tuple[Replica, ...] = ()
    standby: StandbyLag | None = None


def wal_status(config: Config, repository: Repository, source: WalSource, *, now: datetime) -> WalStatus:
    """Look everywhere. A server that does not answer is a finding, not an error. Raises: the store's errors."""
    cluster, server, problem = _ask(config, source)
    repository.refresh()  # backups that others took since it was opened count, too
    snapshots = [s for s in repository.snapshots().snapshots if s.stack == source.stack]
    bases = tuple(base for base, _ in bases_of(repository, snapshots, source=source.spec.label))
    system = cluster.system if cluster else source.spool.owner() or (bases[-1].system if bases else None)
    bases = tuple(base for base in bases if base.system == system)
    size = cluster.segment_size if cluster else bases[-1].segment_size if bases else 16 << 20
    archive = archive_of(repository, system) if system else None
    stock = archive.stock(size) if archive else Stock(size)
    times = commit_reader(archive) if archive else lambda *_: None
    seen = Seen(
        now=now,
        stock=stock,
        bases=bases,
        spool=_compared(spool_state(source), source, archive),
        lsn=cluster.lsn if cluster else None,
        timeline=cluster.timeline if cluster else None,
        server_error=problem,
        server=server,
        limits=limits_of(config, source.stack),
    )
    seen = _with_end(seen, archive, times)
    return WalStatus(
        stack=source.stack,
        source=source.spec.label,
        system=system,
        server_lsn=str(cluster.lsn) if cluster else None,
        server_timeline=cluster.timeline if cluster else None,
        exposure=exposure(seen),
        timelines=tuple(_timeline(stock, timeline) for timeline in stock.timelines),
        bases=tuple(_base(base, stock, times) for base in bases),
        findings=tuple(findings(seen)),
        spool_files=seen.spool.files if seen.spool else 0,
        spool_bytes=seen.spool.bytes if seen.spool else 0,
        disk=server.disk,
        replicas=server.replicas,
        standby=server.standby,
    )


def limits_of(config: Config, stack: str) -> Limits:
    """From when on something about a stack's servers is a finding."""
    own, of_stack = config.monitor, config.stacks.get(stack)
    thresholds = (of_stack.monitor if of_stack else None) or Thresholds()
    return Limits(
        disk_warning=share(own.space_warning),
        disk_critical=share(own.space_critical),
        full_within=length(thresholds.wal_full_within),
        replica_seconds=length(thresholds.replica_behind),
        replica_bytes=thresholds.replica_behind_bytes,
    )


def _ask(config: Config, source: WalSource) -> tuple[Cluster | None, ServerWal, str]:
    try:
        with server_of(config, source.spec) as server, server.session() as session:
            cluster = describe_cluster(session)
            slot = source.slot if source.receiving else None
            return cluster, ask_wal(server, session, cluster, slot=slot), ""
    except (DatabaseUnavailable, EngineUnavailable) as error:
        return None, ServerWal(), str(error)
    except HoldfastError as error:
        return None, ServerWal(), f"{error} ({error.hint})" if error.hint else str(error)


def spool_state(source: WalSource) -> SpoolState | None:
    """What waits in a source's spool, and the room that is left; None when it cannot be looked at."""
    try:
        waiting = source.spool.waiting()
        free, total = source.spool.room()
    except WalNotReady:
        return None
    whole = _to_be_shipped(source, waiting)
    oldest = min((file.modified for file in whole), default=None)
    return SpoolState(len(whole), sum(file.size for file in whole), oldest, free, total)


def _to_be_shipped(source: WalSource, waiting: Sequence[Waiting]) -> list[Waiting]:
    whole = [file for file in waiting if file.name.kind is not WalKind.PARTIAL]
    if source.receiving:  # the newest is kept on purpose: the receiver finds its place by it
        segments = [file for file in whole if file.name.kind is WalKind.SEGMENT]
        whole = [file for file in whole if file is not max(segments, key=lambda f: f.name.text, default=None)]
    return whole


def _compared(state: SpoolState | None, source: WalSource, archive: WalArchive | None) -> SpoolState | None:
    """With the first file that is archived with other content. One that is the same was just shipped.

    Only the first of each timeline can be: what is before it was shipped, what is behind it waits.
    """
    if state is None or archive is None:
        return state
    try:
        first: dict[int, Waiting] = {}
        for file in _to_be_shipped(source, source.spool.waiting()):
            first.setdefault(file.name.timeline, file)
        for file in first.values():
            if archive.has(file.name):
                with open(file.path, "rb") as content:
                    differs = content.read() != archive.read(file.name)[1]
                if differs:
                    return msgspec.structs.replace(state, differs=file.name.text)
    except (FileNotFoundError, WalNotReady, CorruptObject, WalMissing):  # shipped meanwhile, or to be written anew
        return state
    return state


def _with_end(seen: Seen, archive: WalArchive | None, times: LastCommit) -> Seen:
    """What the archive's end holds: how far the partial segment was written, and the last commit."""
    reached = newest_reach(seen)
    if archive is None or reached is None:
        return seen
    end, commit = None, None
    if reached.partial is not None and reached.missing is None:
        try:
            header = archive.read(name_of((reached.partial, True)))[0]
        except WalMissing:
            header = None  # it became whole since we looked
        if header is not None:
            end, commit = Lsn(reached.partial.begin + (header.written or 0)), header.last_commit
    for segment in () if commit else reversed(reached.segments):
        if (commit := times(segment, False)) is not None:
            break
    values = {name: getattr(seen, name) for name in Seen.__dataclass_fields__}
    return Seen(**{**values, "partial_end": end, "last_commit": commit})


def _timeline(stock: Stock, timeline: int) -> TimelineStatus:
    return TimelineStatus(
        timeline=timeline,
        stretches=tuple(map(str, runs(stock, timeline))),
        gaps=tuple(map(str, gaps(stock, timeline))),
        segments=len(stock.segments.get(timeline, ())),
    )


def _base(base: BaseBackup, stock: Stock, times: LastCommit) -> BaseStatus:
    found = is_recoverable(base, stock)
    possible = ranges([base], stock, times) if found else []
    return BaseStatus(
        point=base.point,
        snapshot=base.snapshot,
        stopped=base.stopped,
        recoverable=found,
        range=possible[-1].words() if possible else "",
        lost=base.lost,
        builds_on=len(base.below),
    )
