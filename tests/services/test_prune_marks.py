"""Marks and the grace period of a prune: what goes when, what stays, and what others do meanwhile."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.errors import CorruptObject, RepositoryLocked, SnapshotNotFound, StoreUnavailable
from holdfast.model.ids import BlobId
from holdfast.model.snapshot import Snapshot
from holdfast.policy.prune import ALL, Action, Mark, PackFacts, plan_prune
from holdfast.policy.retention import Rules
from holdfast.repository.forgotten import forgotten_snapshots
from holdfast.repository.index import write_index_file
from holdfast.repository.marks import load_marks, save_marks
from holdfast.repository.pack import BlobKind, PackedBlob
from holdfast.repository.repository import Repository, open_repository
from holdfast.repository.usage import Usage, catch_up, measure_usage
from holdfast.services.backup import take_backup
from holdfast.services.prune import PruneReport, prune
from holdfast.services.restore import restore_directory
from holdfast.services.retention import forget, plan_retention
from holdfast.services.undo import undo_forget
from holdfast.services.verify import verify
from holdfast.sources.tree import TreeSource
from holdfast.store.base import ObjectInfo
from holdfast.store.directory import DirectoryStore
from tests.repository.conftest import Restic
from tests.repository.conftest import referee as referee
from tests.support.faulty_store import Fails, FaultyStore, Rule
from tests.support.repositories import PASSWORD, new_repository, reopen
from tests.support.trees import describe

HOUR = 3600.0
START = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
NOON = START.timestamp() + 10 * 86400


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.repository.lock._SETTLE_SECONDS", 0.0)


def _write(path: Path, seed: int, size: int = 200_000) -> None:
    path.write_bytes(random.Random(seed).randbytes(size))


def _back_up(repository: Repository, source: Path, day: int) -> str:
    repository.refresh()
    moment = START + timedelta(days=day)
    return str(take_backup(repository, "shop", [TreeSource(source, label="path:source")], now=lambda: moment).point)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two points: the first with a file of its own, in a pack of its own, and one whose pack is half needed later."""
    folder = tmp_path_factory.mktemp("marks")
    source = folder / "source"
    source.mkdir()
    repository = new_repository(folder / "repository")
    _write(source / "first only", 1)
    _write(source / "kept", 2)
    _write(source / "always", 5, 20_000)
    _back_up(repository, source, 0)
    _write(source / "second only", 3)
    _back_up(repository, source, 1)
    (source / "first only").unlink()
    (source / "second only").unlink()
    _write(source / "newest", 4)
    _back_up(repository, source, 2)
    return folder


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """The template with all points but the newest forgotten at noon."""
    shutil.copytree(template, tmp_path / "copy")
    repository = reopen(tmp_path / "copy" / "repository")
    _forget(repository)
    return tmp_path / "copy" / "repository"


def _forget(repository: Repository) -> tuple[str, ...]:
    plan = plan_retention(repository, "shop", Rules(keep_last=1))
    return forget(repository, plan, now=lambda: datetime.fromtimestamp(NOON, UTC)).points


def _prune(path: Path, hours: float, **options: float) -> PruneReport:
    return prune(reopen(path), max_unused=0, now=lambda: NOON + hours * HOUR, **options)  # type: ignore[arg-type]


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.glob("data/*/*"))


def test_what_is_unused_goes_after_the_grace_period(path: Path, referee: Restic, tmp_path: Path) -> None:
    before = _bytes(path)
    first = _prune(path, 0)
    assert (first.packs_deleted, first.bytes_freed, first.packs_marked) == (0, 0, 4)
    assert first.bytes_marked > 400_000
    assert first.next_due == datetime.fromtimestamp(NOON + 24 * HOUR, UTC)
    assert first.undoable == 2
    assert _bytes(path) == before
    assert _prune(path, 23.9).bytes_freed == 0
    later = _prune(path, 24)
    assert later.bytes_freed == first.bytes_marked
    assert (later.packs_repacked, later.packs_marked, later.undoable) == (1, 0, 0)
    assert before - _bytes(path) > 390_000
    assert not list(path.glob("holdfast/*/*"))
    assert "no errors were found" in referee(path, "check", "--read-data")
    restore_directory(reopen(path), reopen(path).snapshots().snapshots[-1], tmp_path / "out")
    assert describe(tmp_path / "out") == describe(path.parent / "source")


def test_nothing_is_locked_exclusively_before_something_is_due(path: Path) -> None:
    with reopen(path).lock():  # as a backup holds it
        assert _prune(path, 0).packs_marked
        assert _prune(path, 1).packs_marked
        with pytest.raises(RepositoryLocked):
            _prune(path, 25)
    assert _prune(path, 25).bytes_freed


def test_what_a_broken_off_prune_copied_is_not_copied_for_ever(path: Path) -> None:
    """Copied, and then a backup was in the way of the exclusive lock: the old pack waits once more, and goes."""
    _prune(path, 0)
    with reopen(path).lock(), pytest.raises(RepositoryLocked):
        _prune(path, 25)
    assert _prune(path, 26).bytes_rewritten == 0
    done = _prune(path, 60)
    assert (done.bytes_rewritten, done.packs_marked) == (0, 0)
    assert verify(reopen(path), read_share=1).ok


def test_now_deletes_at_once(path: Path, referee: Restic) -> None:
    _prune(path, 0)
    assert _prune(path, 1, grace_hours=0).bytes_freed > 400_000
    assert "no errors were found" in referee(path, "check", "--read-data")


def test_restic_does_not_see_the_marks(path: Path, referee: Restic) -> None:
    _prune(path, 0)
    assert list(path.glob("holdfast/marks/*"))
    assert list(path.glob("holdfast/forgotten/*"))
    assert "no errors were found" in referee(path, "check", "--read-data")
    referee(path, "prune", "--max-unused=0")
    assert "no errors were found" in referee(path, "check", "--read-data")
    assert list(path.glob("holdfast/marks/*"))
    # What restic has deleted is not missed: the marks end.
    assert _prune(path, 25).packs_marked == 0
    assert not list(path.glob("holdfast/marks/*"))
    assert verify(reopen(path), read_share=1).ok


def test_a_forgotten_point_comes_back(path: Path, referee: Restic, tmp_path: Path) -> None:
    _prune(path, 0)
    gone = sorted({snapshot.id for snapshot in _points_of(path)})
    repository = reopen(path)
    with pytest.raises(SnapshotNotFound, match="forgotten lately"):
        undo_forget(repository, "nothing")
    for name in gone:
        assert undo_forget(repository, name).snapshots == (name,)
    assert len(reopen(path).snapshots().snapshots) == 3
    again = _prune(path, 25)
    assert (again.bytes_freed, again.packs_marked) == (0, 0)
    assert "no errors were found" in referee(path, "check", "--read-data")
    restore_directory(reopen(path), reopen(path).snapshots().snapshots[0], tmp_path / "out")
    assert (tmp_path / "out" / "first only").read_bytes() == random.Random(1).randbytes(200_000)


def _points_of(path: Path) -> list[Snapshot]:
    return [each.snapshot for each in forgotten_snapshots(reopen(path))]


def test_a_point_that_a_foreign_prune_has_emptied_stays_forgotten(path: Path, referee: Restic) -> None:
    referee(path, "prune")
    (name, *_) = sorted(snapshot.id for snapshot in _points_of(path))
    with pytest.raises(CorruptObject):
        undo_forget(reopen(path), name)
    assert len(reopen(path).snapshots().snapshots) == 1


def test_what_is_used_again_loses_its_mark(path: Path) -> None:
    source = path.parent / "source"
    _prune(path, 0)
    _write(source / "first only", 1)  # its data is stored, and marked
    report = take_backup(reopen(path), "shop", [TreeSource(source, label="path:source")], now=lambda: START)
    assert report.sources[0].bytes_added < 50_000
    _prune(path, 25)
    assert verify(reopen(path), read_share=1).ok
    assert len(reopen(path).snapshots().snapshots) == 2


def test_what_dies_later_waits_its_own_time(path: Path) -> None:
    """A pack of which a part is marked; then more of it dies: the part goes, the rest has its whole grace period."""
    source = path.parent / "source"
    _prune(path, 0)
    (source / "kept").unlink()  # it lies in the pack that is half dead
    _back_up(reopen(path), source, 3)
    needs_kept = path / "snapshots" / reopen(path).snapshots().snapshots[0].id
    stored = needs_kept.read_bytes()
    needs_kept.unlink()  # as restic forgets: nothing is kept of it
    _prune(path, 20)
    _prune(path, 25)
    needs_kept.write_bytes(stored)
    assert verify(reopen(path), read_share=1).ok
    assert len(reopen(path).snapshots().snapshots) == 2


@pytest.mark.parametrize("what", ["a backup", "another prune", "a lost index"])
def test_others_between_measuring_and_deleting(path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Between the shared and the exclusive lock: a backup that uses what is due, or somebody who changes the index."""
    source = path.parent / "source"
    _prune(path, 0)

    def meanwhile() -> None:
        if what == "a backup":
            _write(source / "first only", 1)
            take_backup(reopen(path), "shop", [TreeSource(source, label="path:source")], now=lambda: START)
        elif what == "another prune":
            _prune(path, 26)
        else:
            from holdfast.services.repair import repair_index

            assert not repair_index(reopen(path), read_all=True).lost

    _between(monkeypatch, meanwhile)
    report = _prune(path, 25)
    found = verify(reopen(path), read_share=1)
    assert found.ok, found.problems
    assert not found.notices
    if what == "a backup":
        assert report.packs_deleted  # what the backup did not need
        assert len(reopen(path).snapshots().snapshots) == 2
    _prune(path, 80)
    assert verify(reopen(path), read_share=1).ok


def test_a_copy_in_a_pack_that_is_not_there_is_none(path: Path) -> None:
    repository = reopen(path)
    with repository.lock():
        usage = measure_usage(repository)
        blobs = dict(usage.blobs_of(usage.packs))
        lost = {f"{number:064x}": each for number, each in enumerate(blobs.values())}
        write_index_file(repository.store, repository.key, lost)
        assert catch_up(usage, leaving=blobs.keys()) == set()


def test_a_store_that_is_away_does_not_let_go_what_can_come_back(path: Path) -> None:
    store = FaultyStore(DirectoryStore(path))
    repository = open_repository(store, PASSWORD)
    trees = [snapshot.tree for snapshot in _points_of(path)]
    with repository.lock():
        usage = measure_usage(repository)
        store.plan.append(Rule("*", "data/*", Fails(), times=None))
        with pytest.raises(StoreUnavailable):
            usage.hold(trees)
        store.plan.clear()
        usage = measure_usage(repository, hold=["0" * 64, *trees])  # one that is lost keeps no other from being held
    assert all(usage.held.has(BlobKind.TREE, BlobId(bytes.fromhex(tree))) for tree in trees)


def _between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something once, right before the next exclusive lock is asked for."""
    plain = Repository.lock

    def lock(self: Repository, *, exclusive: bool = False, wait_seconds: float = 0.0) -> object:
        if exclusive:
            monkeypatch.setattr(Repository, "lock", plain)
            act()
        return plain(self, exclusive=exclusive, wait_seconds=wait_seconds)

    monkeypatch.setattr(Repository, "lock", lock)


def test_damaged_marks_begin_anew(path: Path) -> None:
    _prune(path, 0)
    (marks,) = path.glob("holdfast/marks/*")
    marks.chmod(0o600)
    marks.write_bytes(b"not marks")
    assert _prune(path, 25).bytes_freed == 0
    assert _prune(path, 49).bytes_freed > 400_000


def test_of_two_sets_of_marks_the_milder_counts(path: Path) -> None:
    repository = reopen(path)
    one, two = ("a" * 64, "b" * 64)
    before = load_marks(repository)
    save_marks(repository, before, [Mark(one, 10.0), Mark(two, 10.0)])
    save_marks(repository, before, [Mark(one, 20.0, b"\x03")])
    assert load_marks(repository).by_pack == {one: Mark(one, 20.0, b"\x03")}


def test_a_plan_has_reasons_and_a_clock_set_back_frees_nothing() -> None:
    facts = [
        PackFacts(pack="used", size=100, blobs=2, used=2),
        PackFacts(pack="dead", size=100, unused=100, blobs=2),
        PackFacts(pack="half", size=100, unused=50, blobs=2, used=1),
        PackFacts(pack="more", size=100, unused=100, blobs=2),
        PackFacts(pack="orphan", size=100, modified=0.0),
        PackFacts(pack="young", size=100, modified=90.0),
    ]
    marks = {"dead": Mark("dead", 500.0), "half": Mark("half", 0.0, b"\x01"), "more": Mark("more", 0.0, b"\x01")}
    plan = plan_prune(facts, marks, grace=50, orphan_age=50, max_unused=0.05, now=100.0)
    found = {decision.pack: (decision.action, decision.due) for decision in plan.decisions}
    assert found == {
        "used": (Action.KEEP, None),
        "dead": (Action.MARK, 150.0),
        "half": (Action.REWRITE, 100.0),
        "more": (Action.MARK, 150.0),  # it died wholly since: once more, and then without copying
        "orphan": (Action.DELETE, None),
        "young": (Action.LEAVE, None),
    }
    assert all(decision.reason for decision in plan.decisions)
    assert (plan.bytes_total, plan.bytes_unused) == (600, 350)


def test_a_mark_names_blobs_by_their_place() -> None:
    mark = Mark("pack", 0.0, b"\x05\x01")
    assert [place for place in range(20) if mark.names(place)] == [0, 2, 8]
    assert Mark("pack", 0.0, ALL).names(1000)


def test_measuring_holds_a_byte_for_each_blob_of_the_index(tmp_path: Path) -> None:
    """What is used is a byte beside the index's row, no object: measured in eight full buckets of the index."""
    usage = Usage(new_repository(tmp_path / "repository"))
    chance = random.Random(1)
    names = [BlobId(bytes((0, number % 8)) + chance.randbytes(30)) for number in range(8_000)]
    usage.listed = {"p" * 64: ObjectInfo("data/pp/p", 1)}
    usage._take_pack("p" * 64, [PackedBlob(name, BlobKind.DATA, 0, 100, 0) for name in names])
    tracemalloc.start()
    for name in names[::2]:
        assert usage._count(BlobKind.DATA, name, usage.used)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 3 * len(names)
    assert [usage.needs(PackedBlob(name, BlobKind.DATA, 0, 100, 0)) for name in names[:4]] == [True, False, True, False]


_PRUNE = """
import sys
from holdfast.services.prune import prune
from tests.support.repositories import reopen
repository = reopen(sys.argv[1])
print("open", flush=True)
prune(repository, grace_hours=0, max_unused=0)
"""


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.soak)])
def test_kill_nine_at_any_moment_of_a_prune(path: Path, tmp_path: Path, referee: Restic, rounds: int) -> None:
    """A real process, really killed; 40 rounds of it with `pytest -m soak tests/services/test_prune_marks.py`."""
    chance, root = random.Random(11), Path(__file__).parents[2]
    for number in range(rounds):
        copy = tmp_path / f"round {number}"
        shutil.copytree(path, copy)
        child = subprocess.Popen([sys.executable, "-c", _PRUNE, copy], cwd=root, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        time.sleep(chance.random() * 0.7)  # two locks settle for 0.2 s each; what is between and after is quick
        child.kill()
        child.communicate()
        found = verify(reopen(copy), read_share=1)
        assert found.ok, found.problems
        prune(reopen(copy), grace_hours=0, orphan_hours=0, max_unused=0)
        assert "no errors were found" in referee(copy, "check", "--read-data")
