"""Findings about a WAL archive, decided purely: each trouble has its name, and a healthy archive has none."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from holdfast.model.base import BaseBackup
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.timeline import Switch, TimelineHistory
from holdfast.model.wal import Lsn
from holdfast.model.wal_state import Archiver, Name, ServerWal, Slot, SpoolState
from holdfast.policy.wal import Stock
from holdfast.policy.wal_findings import Seen, exposure, findings, needs_base
from holdfast.policy.wal_setup import archive_requirements, physical_requirements, slot_requirements

SIZE = 16 << 20
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BASE = BaseBackup(
    SnapshotId("a"), PointId("a"), "42", 1, Lsn(3 * SIZE + 40), Lsn(3 * SIZE + 999), NOW - timedelta(days=1), SIZE
)
FAILING = Archiver(7, NOW, NOW - timedelta(hours=1), "x")
HEALTHY = Seen(
    now=NOW,
    stock=Stock(SIZE, {1: frozenset({3, 4, 5})}),
    bases=(BASE,),
    spool=SpoolState(0, 0, None, 90 << 30, 100 << 30),
    lsn=Lsn(6 * SIZE + 500),
    timeline=1,
    server=ServerWal(slot=Slot("holdfast_db", exists=True, active=True, status="reserved")),
    partial_end=Lsn(6 * SIZE + 400),
    last_commit=NOW - timedelta(seconds=20),
)


def test_a_healthy_archive_has_no_finding() -> None:
    assert findings(HEALTHY) == []
    lost = exposure(HEALTHY)
    assert (lost.archived_to, lost.lost_bytes, lost.lost_seconds) == (str(Lsn(6 * SIZE + 400)), 100, 20.0)
    assert exposure(dataclasses.replace(HEALTHY, partial_end=Lsn(6 * SIZE + 500))).lost_seconds == 0.0


@pytest.mark.parametrize(
    ("change", "name", "critical", "base"),
    [
        ({"server_error": "connection refused", "lsn": None}, Name.SERVER, True, False),
        ({"bases": ()}, Name.NO_BASE, True, True),
        ({"stock": Stock(SIZE, {1: frozenset({3, 5})})}, Name.GAP, True, True),
        ({"stock": Stock(SIZE, {1: frozenset({1, 2})})}, Name.BASE_INCOMPLETE, True, False),
        ({"server": ServerWal(slot=Slot("s", exists=False))}, Name.SLOT_MISSING, True, False),
        ({"server": ServerWal(slot=Slot("s", True, False, "extended", 5 << 30))}, Name.SLOT_INACTIVE, True, False),
        ({"server": ServerWal(slot=Slot("s", True, False, "lost"))}, Name.SLOT_LOST, True, True),
        ({"server": ServerWal(archiver=FAILING)}, Name.ARCHIVER, True, False),
        ({"spool": SpoolState(9, 9 << 24, NOW, 1 << 30, 100 << 30)}, Name.SPOOL_FULL, True, False),
        ({"spool": SpoolState(9, 9, NOW - timedelta(hours=1), 90, 100)}, Name.SPOOL_WAITING, False, False),
        ({"spool": SpoolState(9, 9, NOW, 90, 100, "000000010000000000000003")}, Name.CONFLICT, True, False),
        ({"last_commit": NOW - timedelta(hours=1)}, Name.BEHIND, True, False),
    ],
)
def test_each_trouble_has_its_name(change: dict[str, Any], name: Name, critical: bool, base: bool) -> None:
    found = findings(dataclasses.replace(HEALTHY, **change))
    assert (name, critical) in [(finding.name, finding.critical) for finding in found]
    assert needs_base(found) == base
    assert [finding.critical for finding in found] == sorted((f.critical for f in found), reverse=True)


def test_an_archiver_that_works_again_is_no_finding() -> None:
    archiver = Archiver(7, NOW - timedelta(hours=1), NOW, "x")
    assert findings(dataclasses.replace(HEALTHY, server=ServerWal(archiver=archiver))) == []


def test_after_a_promotion_the_new_timeline_counts() -> None:
    history = TimelineHistory(2, (Switch(1, Lsn(5 * SIZE + 70)),))
    stock = Stock(SIZE, {1: frozenset({3, 4, 5}), 2: frozenset({5, 6})}, {}, {2: history})
    seen = dataclasses.replace(HEALTHY, stock=stock, timeline=2, lsn=Lsn(7 * SIZE), partial_end=None)
    assert findings(seen) == []
    assert exposure(seen).lost_bytes == 0
    gap = dataclasses.replace(seen, stock=Stock(SIZE, {1: frozenset({3}), 2: frozenset({5, 6})}, {}, {2: history}))
    assert Name.GAP in {finding.name for finding in findings(gap)}


def test_what_a_server_needs_says_what_changes_it() -> None:
    poor = {
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_replication_slots": "0",
        "max_slot_wal_keep_size": "-1",
    }
    lacking = physical_requirements(poor, senders=1, role="r", replication=False) + slot_requirements(poor, [], "s")
    needs = {need.name: need for need in lacking}
    assert [name for name, need in needs.items() if need.restart] == [
        "wal_level",
        "max_wal_senders",
        "max_replication_slots",
    ]
    assert all(need.sql for need in needs.values() if not need.met and not need.advice)
    assert not any(need.met for need in needs.values())
    rich = {
        "wal_level": "logical",
        "max_wal_senders": "5",
        "max_replication_slots": "5",
        "max_slot_wal_keep_size": "64GB",
    }
    met = physical_requirements(rich, senders=5, role="r", replication=True) + slot_requirements(rich, [*"abcds"], "s")
    assert all(need.met for need in met)
    assert [
        need.name for need in physical_requirements(rich, senders=6, role="r", replication=True) if not need.met
    ] == ["max_wal_senders"]
    full = slot_requirements(rich, [*"abcde"], "s")[0]  # all five are taken, ours would be the sixth
    assert (full.met, full.wanted) == (False, "at least 6")
    command = next(need for need in archive_requirements({}, "/a b/spool") if need.name == "archive_command")
    assert "/a b/spool" in command.sql[0]
    assert command.sql[0].count("'") % 2 == 0
