"""Base backups: what a snapshot of a data directory says of itself, and where a recovery from it may go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from holdfast.model.facts import DatabaseFacts
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.wal import Lsn

METHOD = "base"


class Tablespace(msgspec.Struct, frozen=True, kw_only=True):
    """A tablespace beside the data directory: its oid, and where it lay on the server."""

    oid: int
    location: str


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """What a recovery must find: a transaction that committed, and a named restore point after it.

    `quiet` tells that nothing was written between the row facts and the restore point: then they hold exactly there.
    `lsn` is the restore point's address.
    """

    xid: int
    name: str
    lsn: str
    time: datetime
    quiet: bool


class BuildsOn(msgspec.Struct, frozen=True, kw_only=True):
    """The base backup before an incremental one, as PostgreSQL knows it: where it started, and on which timeline."""

    timeline: int
    start: str


class BaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One base backup. LSNs as text; `version` is `server_version_num`; `directory` is PGDATA on the server.

    `subpath` is where PGDATA lies below its volume's root ("" for the root itself). `settings` are those that a
    standby needs to be at least as high as the primary's, and some that a restore must know. `wal_included` tells that
    the snapshot holds the WAL from start to stop itself. An incremental backup names the one that it builds on by its
    start: `builds_on`; it holds only the pages that changed since.
    """

    method: str = METHOD
    version: int
    system: str
    timeline: int
    start: str
    stop: str
    started: datetime
    stopped: datetime
    segment_size: int
    checksums: bool
    directory: str
    how: str
    size: int
    files: int
    subpath: str = ""
    image: str | None = None
    user: str = "postgres"
    settings: dict[str, str] = {}
    tablespaces: tuple[Tablespace, ...] = ()
    extensions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    databases: tuple[DatabaseFacts, ...] = ()
    changing: tuple[str, ...] = ()
    canary: Canary | None = None
    wal_included: bool = False
    builds_on: BuildsOn | None = None


@dataclass(frozen=True, slots=True)
class BaseBackup:
    """A base backup as recovery sees it: what lies from `start` to `stop` on `timeline` makes it consistent.

    `below` are the base backups that an incremental one is combined with, the full one first; `lost` tells that one of
    them is gone, and then nothing can be made of it.
    """

    snapshot: SnapshotId
    point: PointId
    system: str
    timeline: int
    start: Lsn
    stop: Lsn
    stopped: datetime
    segment_size: int
    self_contained: bool = False
    builds_on: tuple[int, Lsn] | None = None
    below: tuple[SnapshotId, ...] = ()
    lost: bool = False


class TargetKind(StrEnum):
    """How a recovery's end is named."""

    LATEST = "latest"
    TIME = "time"
    LSN = "lsn"
    XID = "xid"
    NAME = "name"
    CONSISTENT = "immediate"


@dataclass(frozen=True, slots=True)
class RecoveryTarget:
    """Where a recovery ends. Exactly one of the values belongs to the kind; `timeline` None for the newest one.

    Not `inclusive`: just before the transaction, the address, or the commits of that very time. A name has no before.
    """

    kind: TargetKind
    time: datetime | None = None
    lsn: Lsn | None = None
    text: str = ""
    timeline: int | None = None
    inclusive: bool = True

    def __str__(self) -> str:
        return self._words() if self.inclusive else f"just before {self._words()}"

    def _words(self) -> str:
        if self.kind is TargetKind.LATEST:
            return "the end of the archive"
        if self.kind is TargetKind.CONSISTENT:
            return "the end of the base backup"
        if self.kind is TargetKind.TIME and self.time is not None:
            return f"time {self.time.isoformat(sep=' ')}"
        return f"{self.kind} {self.lsn if self.lsn is not None else self.text}"
