"""What is wrong on the server's side of WAL archiving: slot, archiver, the disk of pg_wal, standbys. Pure.

Rules upheld here:
- A disk is foretold to be full only while something holds WAL back, at the rate at which WAL was written lately:
  without that the server throws away what it does not need. A slot that the server would let go before fills no disk.
- All replicas that are behind are one finding: the same one in the next look, whoever of them caught up meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from holdfast.model.wal_state import Archiver, Disk, Finding, Limits, Name, Replica, ServerWal, Slot, StandbyLag
from holdfast.model.words import seconds, size

_SOON = 4
"""The part of `full_within` within which a full disk is critical."""


def with_holder(disk: Disk, slots: Iterable[Slot], archiver: Archiver | None, usual: int) -> Disk:
    """A disk with what holds WAL back there, and when it will be full.

    `slots` are all of the server; `usual` the bytes of WAL that it keeps without any (max_wal_size).
    """
    held, by, spare = 0, "", None
    for slot in slots:
        holds = slot.held_bytes > usual if slot.active else slot.held_bytes > 0
        if slot.exists and slot.status != "lost" and holds and slot.held_bytes > held:
            held, by, spare = slot.held_bytes, f"replication slot {slot.name}", slot.spare_bytes
    if archiver is not None and archiver.stalled and archiver.held_bytes >= held:
        held, by, spare = archiver.held_bytes, "archive_command, which fails", None
    full_in = None
    if by and disk.free is not None and disk.rate and (spare is None or spare >= disk.free):
        full_in = disk.free / disk.rate
    return msgspec.structs.replace(disk, held_by=by, held_bytes=held, full_in=full_in)


def server_findings(wal: ServerWal, limits: Limits) -> Iterator[Finding]:
    """Everything that is wrong with a server's side."""
    yield from _of_slot(wal.slot)
    yield from _of_archiver(wal.archiver)
    yield from _of_disk(wal.disk, limits)
    yield from _of_replicas(wal.replicas, limits)
    yield from _of_standby(wal.standby, limits)


def _of_slot(slot: Slot | None) -> Iterator[Finding]:
    if slot is None:
        return
    if not slot.exists:
        yield Finding(
            name=Name.SLOT_MISSING,
            critical=True,
            text=f"the replication slot {slot.name} is not there: the server throws away WAL that was not received",
            hint="holdfast wal setup --apply",
        )
    elif slot.status == "lost":
        yield Finding(
            name=Name.SLOT_LOST,
            critical=True,
            text=f"the replication slot {slot.name} was left behind by max_slot_wal_keep_size: WAL is gone",
            hint=f"SELECT pg_drop_replication_slot('{slot.name}'); holdfast wal setup --apply; holdfast backup",
        )
    elif not slot.active:
        yield Finding(
            name=Name.SLOT_INACTIVE,
            critical=True,
            text=f"nobody receives from the replication slot {slot.name}, which makes the server keep "
            f"{size(slot.held_bytes)} of WAL",
            hint="start `holdfast wal run`; a slot that is not used any more must be dropped",
        )


def _of_archiver(archiver: Archiver | None) -> Iterator[Finding]:
    if archiver is not None and archiver.stalled:
        yield Finding(
            name=Name.ARCHIVER,
            critical=True,
            text=f"archive_command fails, {archiver.failed} times so far, last on {archiver.last_failed_wal} at "
            f"{archiver.last_failed:%Y-%m-%d %H:%M:%S}",
            hint="the server's log says why; the server keeps its WAL until it succeeds",
        )


def _of_disk(disk: Disk, limits: Limits) -> Iterator[Finding]:
    if disk.free is None or not disk.total:
        return
    why = f"; {disk.held_by} holds {size(disk.held_bytes)} of WAL back" if disk.held_by else ""
    hint = (
        "let go what holds the WAL: a receiver that runs, a slot that is dropped, an archive_command that works"
        if disk.held_by
        else "make room on the server's disk: PostgreSQL stops when pg_wal has none"
    )
    used = 1 - disk.free / disk.total
    if used > limits.disk_warning:
        yield Finding(
            name=Name.DISK_SHORT,
            critical=used > limits.disk_critical,
            text=f"the disk of the server's pg_wal has {size(disk.free)} of {size(disk.total)} left{why}",
            hint=hint,
        )
    if disk.full_in is not None and disk.rate and disk.full_in < limits.full_within:
        yield Finding(
            name=Name.DISK_RUNS_OUT,
            critical=disk.full_in < limits.full_within / _SOON,
            text=f"the disk of the server's pg_wal is full in {seconds(disk.full_in)} at {size(disk.rate)}/s{why}",
            hint=hint,
        )


def _of_replicas(replicas: Sequence[Replica], limits: Limits) -> Iterator[Finding]:
    late = []
    for replica in replicas:
        behind, age = replica.behind
        if behind and (behind > limits.replica_bytes or (age or 0) > limits.replica_seconds):
            late.append(f"{replica.name} ({replica.client}) by {lag_words(behind, age)}")
    if late:
        yield Finding(
            name=Name.REPLICA_BEHIND,
            critical=False,
            text=f"behind the server: {', '.join(late)}",
            hint="SELECT * FROM pg_stat_replication; on the standby: its load, its disk, queries that hold replay up",
        )


def _of_standby(standby: StandbyLag | None, limits: Limits) -> Iterator[Finding]:
    if standby is None:
        return
    age = standby.seconds or 0.0
    if standby.bytes > limits.replica_bytes or age > limits.replica_seconds:
        behind = lag_words(standby.bytes, standby.seconds)
        cut = "" if standby.streaming else "; it is not connected to its primary"
        yield Finding(
            name=Name.STANDBY_BEHIND,
            critical=False,
            text=f"the standby that is backed up is {behind} behind its primary{cut}",
            hint="a base backup of it is as old as what it has replayed: SELECT * FROM pg_stat_wal_receiver",
        )


def lag_words(behind: int, age: float | None) -> str:
    """Bytes, and seconds where they are known."""
    return size(behind) if age is None else f"{size(behind)} and {seconds(age)}"
