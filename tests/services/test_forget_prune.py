"""Forget and prune on real repositories, with restic as the referee."""

from __future__ import annotations

import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.errors import CorruptObject, HoldfastError, SnapshotNotFound
from holdfast.model.proof import Proof
from holdfast.policy.retention import Rules
from holdfast.repository.repository import Repository, open_repository
from holdfast.repository.usage import measure_usage
from holdfast.services.backup import take_backup
from holdfast.services.drill import choose_point, conclude
from holdfast.services.prune import prune
from holdfast.services.restore import restore_directory
from holdfast.services.retention import forget, plan_retention, snapshots_of
from holdfast.services.rules import parse_duration
from holdfast.services.verify import verify
from holdfast.sources.tree import TreeSource
from holdfast.store.directory import DirectoryStore
from tests.repository.conftest import Restic
from tests.repository.conftest import referee as referee
from tests.support.faulty_store import Crashes, FaultyStore, Rule, SimulatedCrash
from tests.support.repositories import PASSWORD, new_repository, reopen
from tests.support.trees import describe

START = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)


def back_up_at(repository: Repository, path: Path, when: datetime, stack: str = "shop") -> None:
    repository.refresh()
    take_backup(repository, stack, [TreeSource(path, label=f"path:{path}")], now=lambda: when)


def write(path: Path, seed: int, size: int = 300_000) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(random.Random(seed).randbytes(size))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of twelve points of `shop`, each with a file of its own that the next one has no more."""
    folder = tmp_path_factory.mktemp("template")
    repository = new_repository(folder / "repository")
    write(folder / "source" / "same", 0)
    for number in range(12):
        write(folder / "source" / "changing", number + 1)
        back_up_at(repository, folder / "source", START + timedelta(hours=37 * number))
    return folder


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Path:
    """The template's repository, and beside it what it was made of, in folders that the test may change."""
    shutil.copytree(template / "source", tmp_path / "source")
    shutil.copytree(template / "repository", tmp_path / "repository")
    return tmp_path / "repository"


@pytest.mark.parametrize(
    ("rules", "flags"),
    [
        (Rules(keep_last=3), ["--keep-last=3"]),
        (Rules(keep_daily=4, keep_weekly=2), ["--keep-daily=4", "--keep-weekly=2"]),
        (Rules(keep_hourly=2, keep_monthly=3), ["--keep-hourly=2", "--keep-monthly=3"]),
        (Rules(keep_yearly=2), ["--keep-yearly=2"]),
        (Rules(keep_within=parse_duration("5d12h")), ["--keep-within=5d12h"]),
        (Rules(keep_weekly=50), ["--keep-weekly=50"]),
    ],
)
def test_the_same_points_stay_as_with_restic(filled: Path, referee: Restic, rules: Rules, flags: list[str]) -> None:
    repository = reopen(filled)
    plan = plan_retention(repository, "shop", rules)
    said = referee(filled, "forget", "--dry-run", "--json", "--no-lock", "--group-by=host", *flags)
    groups = json.loads(next(line for line in said.splitlines() if line.startswith("[")))
    theirs = {snapshot["id"] for group in groups for snapshot in group["keep"]}
    of_point = {s.point: s.id for s in repository.snapshots().snapshots}
    ours = {of_point[decision.point]: decision.reasons for decision in plan.keep}
    assert set(ours) >= theirs
    # restic before 0.15 does not keep the oldest one for a count that is not used up; later ones do.
    assert all(reason.startswith("oldest, ") for extra in set(ours) - theirs for reason in ours[extra])


def test_two_hosts_with_a_stack_of_one_name_take_nothing_from_each_other(tmp_path: Path) -> None:
    """As restic groups by host: else the host that is later each night would have the other's forgotten."""
    repository = new_repository(tmp_path / "repository")
    write(tmp_path / "source" / "file", 1)
    day, hosts = timedelta(days=1), ("early", "late")

    def run(host: str, when: datetime) -> None:
        source = TreeSource(tmp_path / "source", label="path:/data")
        take_backup(repository, "app", [source], now=lambda: when, hostname=host)
        plan = plan_retention(repository, "app", Rules(keep_daily=2), now=lambda: when)
        forget(repository, plan, now=lambda: when)
        repository.refresh()

    for number in range(4):
        for hour, host in enumerate(hosts):
            run(host, START + number * day + timedelta(hours=hour))
        left = [snapshot.hostname for snapshot in repository.snapshots().snapshots]
        assert {host: left.count(host) for host in hosts} == dict.fromkeys(hosts, min(number + 1, 2))
    plan = plan_retention(repository, "app", Rules(keep_daily=2), now=lambda: START + 4 * day)
    assert plan.notes == (
        "several hosts back up a stack named app: early, late; the rules hold for each of them by itself",
    )
    assert choose_point(repository, "app", host="early").snapshots[0].hostname == "early"
    with pytest.raises(SnapshotNotFound, match="several hosts have a stack of this name"):
        choose_point(repository, "app", host="third")


def test_forgotten_pruned_and_whole(filled: Path, referee: Restic, tmp_path: Path) -> None:
    repository = reopen(filled)
    plan = plan_retention(repository, "shop", Rules(keep_last=2))
    assert len(forget(repository, plan).points) == 10
    dry = prune(repository, dry_run=True, grace_hours=0)
    before = sum(file.stat().st_size for file in filled.glob("data/*/*"))
    report = prune(repository, grace_hours=0)
    after = sum(file.stat().st_size for file in filled.glob("data/*/*"))
    assert report.bytes_freed == dry.bytes_freed
    assert before - after > 2_500_000
    assert "no errors were found" in referee(filled, "check", "--read-data")
    newest = repository.snapshots().snapshots[-1]
    restore_directory(repository, newest, tmp_path / "out")
    assert describe(tmp_path / "out") == describe(tmp_path / "source")
    assert prune(repository, grace_hours=0).bytes_freed == 0
    assert not list(filled.glob("holdfast/*/*"))
    assert not plan_retention(repository, "shop", Rules(keep_last=2)).remove


def test_mostly_dead_packs_are_rewritten(tmp_path: Path, referee: Restic) -> None:
    repository = new_repository(tmp_path / "repository")
    source = tmp_path / "source"
    for number in range(8):
        write(source / f"{number}", number)
    back_up_at(repository, source, START)
    for number in range(1, 8):
        (source / f"{number}").unlink()
    back_up_at(repository, source, START + timedelta(days=1))
    forget(repository, plan_retention(repository, "shop", Rules(keep_last=1)))
    report = prune(repository, grace_hours=0)
    assert report.packs_repacked >= 1
    assert report.bytes_freed > 2_000_000
    assert "no errors were found" in referee(tmp_path / "repository", "check", "--read-data")
    restore_directory(repository, repository.snapshots().snapshots[-1], tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)


def test_another_stack_is_not_touched(filled: Path, tmp_path: Path) -> None:
    repository = reopen(filled)
    back_up_at(repository, tmp_path / "source", START, stack="shop2")
    forget(repository, plan_retention(repository, "shop", Rules(keep_last=1)))
    assert [s.stack for s in repository.snapshots().snapshots].count("shop2") == 1


def test_the_last_proven_point_stays(filled: Path) -> None:
    repository = reopen(filled)
    oldest = repository.snapshots().snapshots[0]
    assert oldest.point
    point = choose_point(repository, "shop", oldest.point)
    conclude(repository, point, [], started=START, finished=START)  # a proof of nothing proves nothing
    assert oldest.point in {d.point for d in plan_retention(repository, "shop", Rules(keep_last=1)).remove}
    _prove(repository, oldest.point)
    plan = plan_retention(repository, "shop", Rules(keep_last=1))
    reasons = {decision.point: decision.reasons for decision in plan.keep}
    assert reasons[oldest.point] == ("the last proven one",)


def _prove(repository: Repository, name: str) -> Proof:
    from holdfast.model.proof import SourceProof

    point = choose_point(repository, "shop", name)
    source = point.snapshots[0]
    proof = SourceProof(source=source.source, snapshot=source.id, compared="2 files", restore_seconds=0.1)
    return conclude(repository, point, [proof], started=START, finished=START)


def test_a_plan_that_is_out_of_date_forgets_nothing_that_is_needed_now(filled: Path) -> None:
    repository = reopen(filled)
    plan = plan_retention(repository, "shop", Rules(keep_last=1))
    doomed = plan.remove[-1].point
    _prove(repository, doomed)
    assert doomed not in forget(repository, plan).points
    assert doomed in {s.point for s in repository.snapshots().snapshots}


def test_a_dry_run_disturbs_no_backup_and_counts_what_would_be_forgotten(filled: Path) -> None:
    repository = reopen(filled)
    plan = plan_retention(repository, "shop", Rules(keep_last=2))
    with repository.lock():  # as a backup holds it
        dry = prune(repository, dry_run=True, without=snapshots_of(repository, plan))
    assert dry.bytes_marked > 2_500_000
    forget(repository, plan)
    assert prune(repository).bytes_marked == dry.bytes_marked


def test_what_restic_made_is_left_alone(filled: Path, referee: Restic, tmp_path: Path) -> None:
    referee(filled, "backup", str(tmp_path / "source"))
    repository = reopen(filled)
    forget(repository, plan_retention(repository, "shop", Rules(keep_last=1)))
    plan = plan_retention(repository, "", Rules(keep_last=1))
    assert not plan.decisions
    assert not forget(repository, plan).points
    assert [snapshot.stack for snapshot in repository.snapshots().snapshots].count(None) == 1


def test_a_proof_that_cannot_be_read_is_told_with_the_plan(filled: Path) -> None:
    repository = reopen(filled)
    oldest = repository.snapshots().snapshots[0].point
    assert oldest
    _prove(repository, oldest)
    (filled / "holdfast" / "proofs" / ("ab" * 32)).write_bytes(b"not a proof")
    plan = plan_retention(repository, "shop", Rules(keep_last=1))
    assert oldest in {decision.point for decision in plan.keep}
    assert len(plan.notes) == 1
    assert "ab" * 32 in plan.notes[0]


@pytest.fixture
def no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process works at a time here: a lock need not wait for others that take one at the same moment."""
    monkeypatch.setattr("holdfast.repository.lock._SETTLE_SECONDS", 0.0)


SOME, EVERY = range(1, 200, 17), range(1, 200)
"""Steps at which a run is killed: some of them by default, all of them with `pytest -m soak tests/services`."""


@pytest.mark.parametrize("steps", [SOME, pytest.param(EVERY, marks=pytest.mark.soak)], ids=["some", "every"])
def test_killed_at_any_step_of_a_forget_every_point_is_whole_or_doomed(
    filled: Path, tmp_path: Path, no_settling: None, steps: range
) -> None:
    for at in steps:
        path = tmp_path / "crash"
        shutil.copytree(filled, path)
        plan = plan_retention(reopen(path), "shop", Rules(keep_last=9))
        faulty = FaultyStore(DirectoryStore(path), Rule("*", "*", Crashes(), at=at))
        try:
            forget(open_repository(faulty, PASSWORD), plan)
        except (SimulatedCrash, HoldfastError):
            for lock in path.glob("locks/*"):
                lock.unlink()
            there = {snapshot.point for snapshot in reopen(path).snapshots().snapshots}
            assert {decision.point for decision in plan.keep} <= there
            assert verify(reopen(path), read_share=1).ok
            forget(reopen(path), plan_retention(reopen(path), "shop", Rules(keep_last=9)))
            assert len(reopen(path).snapshots().snapshots) == 9
            shutil.rmtree(path)
            continue
        assert at > 30
        return
    pytest.fail("it never came to its end")


@pytest.mark.parametrize("folder", ["snapshots", "index", "data"])
def test_damage_stops_forget_or_prune_before_anything_is_deleted(filled: Path, folder: str) -> None:
    victims = _tree_packs(filled) if folder == "data" else sorted((filled / folder).iterdir())[:1]
    for victim in victims:
        data = bytearray(victim.read_bytes())
        data[20 if folder == "data" else -1] ^= 1
        victim.chmod(0o600)
        victim.write_bytes(data)
    repository = reopen(filled)
    before = sorted(str(file) for file in filled.glob("*/**/*") if file.is_file())
    with pytest.raises(CorruptObject):
        prune(repository)
    if folder == "snapshots":
        with pytest.raises(CorruptObject):
            plan_retention(repository, "shop", Rules(keep_last=1))
    assert sorted(str(file) for file in filled.glob("*/**/*") if file.is_file()) == before


def _tree_packs(path: Path) -> list[Path]:
    usage = measure_usage(reopen(path))
    names = [pack for pack, count in usage.packs.items() if count.trees]
    return [path / "data" / name[:2] / name for name in names]


def test_a_young_pack_without_an_index_is_left_alone(filled: Path) -> None:
    name = "ab" * 32
    (filled / "data" / "ab").mkdir(exist_ok=True)
    stray = filled / "data" / "ab" / name
    stray.write_bytes(b"an upload in flight")
    repository = reopen(filled)
    assert prune(repository).packs_fresh == 1
    assert stray.exists()
    assert prune(repository, orphan_hours=0, now=lambda: stray.stat().st_mtime + 60).packs_orphaned == 1
    assert not stray.exists()


@pytest.mark.parametrize("steps", [SOME, pytest.param(EVERY, marks=pytest.mark.soak)], ids=["some", "every"])
def test_killed_at_any_step_of_a_prune_the_repository_is_whole(
    filled: Path, tmp_path: Path, no_settling: None, steps: range
) -> None:
    """Marks of three days ago are due: packs are deleted, and one is rewritten."""
    base = reopen(filled)
    then = datetime.now(UTC) - timedelta(days=3)
    forget(base, plan_retention(base, "shop", Rules(keep_last=2)), now=lambda: then)
    prune(base, max_unused=0, now=then.timestamp)
    crashed = 0
    for at in steps:
        path = tmp_path / "crash"
        shutil.copytree(filled, path)
        store = FaultyStore(DirectoryStore(path), Rule("*", "*", Crashes(), at=at))
        try:
            report = prune(open_repository(store, PASSWORD), max_unused=0)
        except SimulatedCrash:
            crashed += 1
            for lock in path.glob("locks/*"):
                lock.unlink()
            found = verify(reopen(path), read_share=1)
            assert found.ok, (at, found.problems)
            prune(reopen(path), grace_hours=0, orphan_hours=0)
            assert not measure_usage(reopen(path)).unindexed
            shutil.rmtree(path)
            continue
        assert report.packs_deleted
        assert report.packs_repacked
        break
    assert crashed > 3
