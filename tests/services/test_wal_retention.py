"""Retention of base backups and WAL in a repository: what goes, what stays, and that the rest can be recovered."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from holdfast.errors import CorruptObject, TargetOutOfRange
from holdfast.model.base import BaseFacts, RecoveryTarget, TargetKind
from holdfast.model.entry import Entry, Kind
from holdfast.model.wal import Lsn, WalSegment
from holdfast.policy.recovery import needed_by
from holdfast.policy.retention import Duration, Rules
from holdfast.repository.repository import Opened, Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.backup import take_backup
from holdfast.services.bases import bases_of
from holdfast.services.pitr_plan import plan_pitr
from holdfast.services.prune import prune
from holdfast.services.retention import forget, plan_retention
from holdfast.services.shipping import header_for
from holdfast.services.undo import undo_forget
from holdfast.services.wal_expiry import expire_wal
from tests.support.memory_store import MemoryStore
from tests.support.repositories import new_repository_on
from tests.support.wal import SIZE, SYSTEM, named, segment_bytes

START = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 30
NOW = START + timedelta(days=DAYS)


class Text:
    """The content of the one file."""

    def open(self) -> io.BytesIO:
        return io.BytesIO(b"15\n")


class Base:
    """A base backup as a snapshot holds it: one a day needs that day's segment."""

    label, notes = "postgres:db", ()

    def __init__(self, day: int) -> None:
        self.day = day

    def entries(self) -> Iterator[Entry]:
        yield Entry(b"", Kind.DIR)
        yield Entry(b"PG_VERSION", Kind.FILE, content=Text())

    def facts(self) -> Mapping[str, object]:
        stopped = START + timedelta(days=self.day)
        facts = BaseFacts(
            version=150018,
            system=SYSTEM,
            timeline=1,
            start=str(Lsn(self.day * SIZE + 40)),
            stop=str(Lsn(self.day * SIZE + 900)),
            started=stopped,
            stopped=stopped,
            segment_size=SIZE,
            checksums=True,
            directory="/data",
            how="stream",
            size=3,
            files=1,
        )
        built: dict[str, object] = msgspec.to_builtins(facts)
        return built


def days(names: Sequence[str]) -> list[int]:
    return [named(name).segment(SIZE).number for name in names]


@pytest.fixture
def repository(filled: Repository) -> Repository:
    """A copy of the filled one."""
    store = MemoryStore()
    for info in filled.store.list(""):
        store.put(info.key, filled.store.get(info.key))
    return Repository(store.location, Opened(store, filled.key, filled.key_id, filled.id))


@pytest.fixture(scope="module")
def filled() -> Repository:
    """A base backup every third day, and a segment for each day, with a commit at noon."""
    repository = new_repository_on(MemoryStore())
    archive = WalArchive(repository.store, repository.key, SYSTEM)
    for day in range(1, DAYS):
        name = named(WalSegment(1, day, SIZE).name)
        data = segment_bytes(day, commits=(START + timedelta(days=day, hours=12),), filled=20_000)
        archive.put(name, data, header_for(SYSTEM, name, data))
        if day % 3 == 1:
            moment = START + timedelta(days=day)
            take_backup(repository, "shop", [Base(day)], now=lambda moment=moment: moment)  # type: ignore[misc]  # as above: a default in a lambda
    return repository


def test_a_window_and_a_weekly_rule(repository: Repository) -> None:
    rules = Rules(keep_weekly=3, recovery_window=Duration(days=7))
    plan = plan_retention(repository, "shop", rules, now=lambda: NOW)
    kept = {(decision.time - START).days: "; ".join(decision.reasons) for decision in plan.keep}
    assert kept[22] == "begins the recovery window on timeline 1; weekly 2 of 3" or "recovery window" in kept[22]
    assert {25, 28} <= set(kept)
    assert "inside the recovery window" in kept[25]
    forget(repository, plan, now=lambda: NOW)
    _grace_passes(repository)

    planned = expire_wal(repository, {"shop": Duration(days=7)}, dry_run=True, now=lambda: NOW)
    done = expire_wal(repository, {"shop": Duration(days=7)}, now=lambda: NOW)
    assert [report.decisions for report in planned] == [report.decisions for report in done]
    assert done[0].bytes_freed > 0
    archive = WalArchive(repository.store, repository.key, SYSTEM)
    left = days([name.text for name in archive.names()])
    assert left == sorted({day for day in kept if day < 22} | set(range(22, DAYS)))
    assert expire_wal(repository, {"shop": Duration(days=7)}, now=lambda: NOW)[0].files_removed == 0

    for day in range(DAYS - 7, DAYS - 1):
        plan_pitr(repository, "shop", "db", RecoveryTarget(TargetKind.TIME, time=START + timedelta(days=day, hours=3)))
    with pytest.raises(TargetOutOfRange):
        plan_pitr(repository, "shop", "db", RecoveryTarget(TargetKind.TIME, time=START + timedelta(days=2)))


def _grace_passes(repository: Repository) -> None:
    assert prune(repository, grace_hours=0, now=lambda: NOW.timestamp()).undoable == 0


@pytest.mark.parametrize("window", [None, Duration(days=7)])
def test_what_is_forgotten_keeps_its_wal_as_long_as_it_can_come_back(
    repository: Repository, window: Duration | None
) -> None:
    before = {name.text for name in WalArchive(repository.store, repository.key, SYSTEM).names()}
    plan = plan_retention(repository, "shop", Rules(keep_last=1, recovery_window=window), now=lambda: NOW)
    points = forget(repository, plan, now=lambda: NOW).points
    # As the flow does it: forget, prune, expire.
    assert prune(repository, now=lambda: NOW.timestamp()).undoable == len(points)
    expire_wal(repository, {"shop": window}, now=lambda: NOW)
    for point in points:
        undo_forget(repository, point)
    left = {name.text for name in WalArchive(repository.store, repository.key, SYSTEM).names()}
    assert days(sorted(before - left)) == ([] if window is None else [2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21])
    bases = bases_of(repository, repository.snapshots().snapshots, strict=True)
    assert len(bases) == 10
    for base, _ in bases:
        assert {segment.name for segment in needed_by(base)} <= left


def test_without_a_window_everything_after_the_oldest_base_stays(repository: Repository) -> None:
    plan = plan_retention(repository, "shop", Rules(keep_last=2), now=lambda: NOW)
    forget(repository, plan, now=lambda: NOW)
    _grace_passes(repository)
    report = expire_wal(repository, {}, now=lambda: NOW)[0]
    gone = [name for decision in report.decisions if not decision.keep for name in decision.names]
    assert days(gone) == list(range(1, 25))


def test_nothing_expires_while_something_cannot_be_read(repository: Repository) -> None:
    victim = next(iter(repository.store.list("snapshots"))).key
    repository.store.put(victim, b"damaged")
    with pytest.raises(CorruptObject, match="cannot be read"):
        expire_wal(repository, {"shop": Duration(days=1)}, now=lambda: NOW)


def test_a_cluster_without_any_base_keeps_everything(repository: Repository) -> None:
    for info in list(repository.store.list("snapshots")):
        repository.store.delete(info.key)
    report = expire_wal(repository, {"shop": Duration(days=1)}, now=lambda: NOW)[0]
    assert report.files_removed == 0
    assert len(WalArchive(repository.store, repository.key, SYSTEM).names()) == DAYS - 1
