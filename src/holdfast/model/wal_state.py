"""What is seen of a server's side of WAL archiving, and what a finding about an archive is. Plain values.

Rules upheld here:
- What could not be seen is None, never 0; where it matters a reason stands beside it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Name(StrEnum):
    """The findings."""

    SERVER = "server-unreachable"
    NO_BASE = "no-base"
    BASE_LOST = "base-lost"
    GAP = "gap"
    BASE_INCOMPLETE = "base-incomplete"
    ARCHIVER = "archiver-stalled"
    SLOT_MISSING = "slot-missing"
    SLOT_INACTIVE = "slot-inactive"
    SLOT_LOST = "slot-lost"
    DISK_SHORT = "disk-short"
    DISK_RUNS_OUT = "disk-runs-out"
    REPLICA_BEHIND = "replica-behind"
    STANDBY_BEHIND = "standby-behind"
    CONFLICT = "conflict"
    SPOOL_FULL = "spool-full"
    SPOOL_WAITING = "spool-waiting"
    BEHIND = "behind"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. A critical one endangers recovery now."""

    name: Name
    critical: bool
    text: str
    hint: str = ""


class Slot(msgspec.Struct, frozen=True):
    """A replication slot: `status` is PostgreSQL's wal_status (reserved, extended, unreserved, lost).

    `held_bytes` of WAL are kept for it; `spare_bytes` more before the server lets go of it, None without a limit.
    """

    name: str
    exists: bool
    active: bool = False
    status: str = ""
    held_bytes: int = 0
    spare_bytes: int | None = None


class Archiver(msgspec.Struct, frozen=True):
    """pg_stat_archiver, where the server has an archive_command; `held_bytes` were written since it last worked."""

    failed: int = 0
    last_failed: datetime | None = None
    last_archived: datetime | None = None
    last_failed_wal: str = ""
    held_bytes: int = 0

    @property
    def stalled(self) -> bool:
        """Whether its last try failed."""
        if self.last_failed is None:
            return False
        return self.last_archived is None or self.last_failed > self.last_archived


class SpoolState(msgspec.Struct, frozen=True):
    """What waits in the spool, and the room that is left; bytes.

    `differs` names the first file that is archived with other content.
    """

    files: int
    bytes: int
    oldest: datetime | None
    free: int
    total: int
    differs: str = ""


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """The filesystem that holds a server's pg_wal.

    `free` and `total` in bytes, `unknown` the reason where they are None; `pg_wal` the bytes of WAL in it; `rate` the
    bytes of WAL that the server wrote per second lately; `held_by` what keeps it from throwing WAL away, in words, with
    `held_bytes`; `full_in` the seconds until the disk is full while that holds on, None where it will not be.
    """

    free: int | None = None
    total: int | None = None
    unknown: str = ""
    pg_wal: int | None = None
    rate: float | None = None
    held_by: str = ""
    held_bytes: int = 0
    full_in: float | None = None


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A row of pg_stat_replication: how far the other end is behind, in bytes of WAL, and in seconds where measured.

    What only receives has nothing to replay: None there. Seconds are None, too, while nothing is on its way.
    """

    name: str
    client: str
    state: str
    sent_bytes: int | None = None
    write_bytes: int | None = None
    flush_bytes: int | None = None
    replay_bytes: int | None = None
    write_seconds: float | None = None
    flush_seconds: float | None = None
    replay_seconds: float | None = None

    @property
    def behind(self) -> tuple[int | None, float | None]:
        """What counts: replayed for a standby, written for what only receives; nothing while it takes a base backup."""
        if self.state == "backup":
            return None, None
        if self.replay_bytes is not None:
            return self.replay_bytes, self.replay_seconds
        return self.write_bytes, self.write_seconds


class StandbyLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far a standby has replayed behind what it knows of its primary; `streaming`: it is connected to it."""

    bytes: int
    seconds: float | None
    streaming: bool


class ServerWal(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a server's WAL that the server itself tells, at one instant.

    `slot` is the one that the archive is received from, None where it comes by archive_command; `standby` None on a
    primary.
    """

    slot: Slot | None = None
    archiver: Archiver | None = None
    disk: Disk = Disk()
    replicas: tuple[Replica, ...] = ()
    standby: StandbyLag | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """From when on it is a finding: shares of a disk, seconds, bytes."""

    disk_warning: float = 0.80
    disk_critical: float = 0.92
    full_within: float = 6 * 3600.0
    replica_seconds: float = 300.0
    replica_bytes: int = 1 << 30
