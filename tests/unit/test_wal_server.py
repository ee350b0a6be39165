"""The server's side of a WAL archive, judged purely: what holds WAL back, when a disk is full, who is behind."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from holdfast.model.wal_state import Archiver, Disk, Limits, Name, Replica, ServerWal, Slot, StandbyLag
from holdfast.policy.wal_server import server_findings, with_holder

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GIB = 1 << 30
DISK = Disk(free=40 * GIB, total=100 * GIB, pg_wal=GIB, rate=float(1 << 20))
LIMITS = Limits()


def slot(held: int, *, active: bool = False, status: str = "extended", spare: int | None = None) -> Slot:
    return Slot("s", True, active, status, held, spare)


@pytest.mark.parametrize(
    ("slots", "archiver", "by", "full_in"),
    [
        ([], None, "", None),
        ([slot(GIB // 2, active=True)], None, "", None),
        ([slot(2 * GIB, active=True)], None, "replication slot s", 40960.0),
        ([slot(5)], None, "replication slot s", 40960.0),
        ([slot(5, status="lost")], None, "", None),
        ([slot(5, spare=39 * GIB)], None, "replication slot s", None),
        ([slot(5, spare=40 * GIB)], None, "replication slot s", 40960.0),
        ([Slot("o", True, False, "", 9), slot(5)], None, "replication slot o", 40960.0),
        ([], Archiver(3, NOW, None, "x", 7), "archive_command, which fails", 40960.0),
        ([], Archiver(3, None, NOW, "x", 7), "", None),
    ],
)
def test_a_disk_is_foretold_to_be_full_only_while_something_holds_wal_back(
    slots: list[Slot], archiver: Archiver | None, by: str, full_in: float | None
) -> None:
    found = with_holder(DISK, slots, archiver, GIB)
    assert (found.held_by, found.full_in) == (by, full_in)


def test_what_is_not_known_foretells_nothing() -> None:
    for unknown in (Disk(unknown="elsewhere", rate=1.0), Disk(free=5, total=10), Disk(free=5, total=10, rate=0.0)):
        found = with_holder(unknown, [slot(5)], None, GIB)
        assert (found.held_by, found.full_in) == ("replication slot s", None)
    assert not list(server_findings(ServerWal(disk=Disk(unknown="elsewhere")), LIMITS))


@pytest.mark.parametrize(
    ("disk", "found"),
    [
        (DISK, []),
        (Disk(free=19, total=100), [(Name.DISK_SHORT, False)]),
        (Disk(free=7, total=100), [(Name.DISK_SHORT, True)]),
        (Disk(free=50, total=100, rate=1.0, held_by="s", full_in=6 * 3600.0), []),
        (Disk(free=50, total=100, rate=1.0, held_by="s", full_in=6 * 3600.0 - 1), [(Name.DISK_RUNS_OUT, False)]),
        (Disk(free=50, total=100, rate=1.0, held_by="s", full_in=5399.0), [(Name.DISK_RUNS_OUT, True)]),
    ],
)
def test_a_disk_is_judged_by_what_is_left_and_by_when_it_is_full(disk: Disk, found: list[tuple[Name, bool]]) -> None:
    assert [(f.name, f.critical) for f in server_findings(ServerWal(disk=disk), LIMITS)] == found


def test_a_finding_about_a_disk_says_what_holds_the_wal_and_how_long_it_lasts() -> None:
    disk = with_holder(Disk(free=GIB, total=100 * GIB, rate=float(1 << 20)), [slot(3 * GIB)], None, GIB)
    short, runs_out = server_findings(ServerWal(disk=disk), LIMITS)
    assert "has 1.0 GiB of 100.0 GiB left; replication slot s holds 3.0 GiB of WAL back" in short.text
    assert "is full in 17 min 4 s at 1.0 MiB/s" in runs_out.text


def replica(state: str = "streaming", **lag: float) -> Replica:
    return msgspec.convert({"name": "r", "client": "10.0.0.7", "state": state, **lag}, Replica)


@pytest.mark.parametrize(
    ("seen", "late"),
    [
        (replica(replay_bytes=GIB + 1), True),
        (replica(replay_bytes=GIB), False),
        (replica(replay_bytes=10, replay_seconds=301.0), True),
        (replica(replay_bytes=0, replay_seconds=301.0), False),
        (replica(write_bytes=10, flush_bytes=GIB * 2, flush_seconds=900.0, write_seconds=1.0), False),
        (replica(write_bytes=10, write_seconds=301.0), True),
        (replica("backup", write_bytes=GIB * 2), False),
    ],
)
def test_a_replica_is_behind_by_what_it_replayed_and_a_receiver_by_what_it_wrote(seen: Replica, late: bool) -> None:
    found = list(server_findings(ServerWal(replicas=(seen, seen)), LIMITS))
    assert [f.name for f in found] == ([Name.REPLICA_BEHIND] if late else []), "one finding, however many are late"
    assert all(f.text.count("10.0.0.7") == 2 and not f.critical for f in found)


@pytest.mark.parametrize(
    ("bytes_", "age", "streaming", "text"),
    [
        (0, 0.0, True, None),
        (GIB + 1, 1.0, True, "is 1.0 GiB and 1.0 s behind its primary"),
        (0, 999.0, False, "behind its primary; it is not connected"),
        (0, None, False, None),
    ],
)
def test_a_standby_that_is_backed_up(bytes_: int, age: float | None, streaming: bool, text: str | None) -> None:
    lag = StandbyLag(bytes=bytes_, seconds=age, streaming=streaming)
    found = list(server_findings(ServerWal(standby=lag), LIMITS))
    assert [f.name for f in found] == ([Name.STANDBY_BEHIND] if text else [])
    assert text is None or text in found[0].text
