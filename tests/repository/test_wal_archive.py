"""The WAL archive: written once, never overwritten, never mixed, invisible to restic and to our own check and prune."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path

import pytest

from holdfast.errors import CorruptObject, StoreDenied, StoreUnavailable, WalConflict, WalMissing, WalNotReady
from holdfast.model.wal import WalName
from holdfast.postgres.walfile import commit_times
from holdfast.repository.wal_archive import WalArchive, systems
from holdfast.services import shipping
from holdfast.services.prune import prune
from holdfast.services.shipping import Shipper, header_for, partial_of
from holdfast.services.spool import Spool
from holdfast.services.verify import verify
from holdfast.store.base import Bytes
from tests.repository.conftest import Restic
from tests.support.faulty_store import Fails, FaultyStore, Lost, Rule
from tests.support.memory_store import MemoryStore
from tests.support.repositories import backup_directory, new_repository, new_repository_on
from tests.support.wal import SIZE, SYSTEM, named, segment_bytes

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
FIRST = named("000000010000000000000001")


def put(archive: WalArchive, name: WalName, data: bytes) -> bool:
    return archive.put(name, data, header_for(archive.system, name, data)).new


@pytest.fixture
def archive() -> WalArchive:
    repository = new_repository_on(MemoryStore())
    return WalArchive(repository.store, repository.key, SYSTEM)


def fill(spool: Path, *numbers: int) -> None:
    spool.mkdir(exist_ok=True)
    for number in numbers:
        (spool / f"{1:08X}{0:08X}{number:08X}").write_bytes(segment_bytes(number))


def test_the_same_again_is_a_success_and_other_content_an_error(archive: WalArchive) -> None:
    assert put(archive, FIRST, segment_bytes(1))
    assert not put(archive, FIRST, segment_bytes(1))
    with pytest.raises(WalConflict, match="other content"):
        put(archive, FIRST, segment_bytes(1, seed=2))
    assert archive.read(FIRST)[1] == segment_bytes(1)


def test_a_partial_segment_grows_and_never_shrinks(archive: WalArchive) -> None:
    partial = partial_of(FIRST)
    whole = segment_bytes(1)
    short, longer = whole[:9000].ljust(SIZE, b"\0"), whole[:90_000].ljust(SIZE, b"\0")
    assert put(archive, partial, short)
    assert put(archive, partial, longer)
    assert not put(archive, partial, short)
    assert archive.read(partial)[1] == longer
    with pytest.raises(WalConflict):
        put(archive, partial, segment_bytes(1, seed=3))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (segment_bytes(1, system="77"), "another cluster"),
        (segment_bytes(2), "wrong name"),
        (segment_bytes(1, timeline=2), "wrong name"),
        (segment_bytes(1)[:-1], "not whole"),
        (bytes(SIZE), "no WAL segment"),
        (b"", "no WAL segment"),
    ],
)
def test_what_does_not_fit_its_name_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(WalConflict, match=complaint):
        header_for(SYSTEM, FIRST, data)


def test_commit_times_are_found_and_garbage_is_not() -> None:
    commits = tuple(NOON + timedelta(seconds=seconds) for seconds in (0, 5, 9.25))
    assert commit_times(segment_bytes(3, commits=commits), 3 * SIZE) == (commits[0], commits[-1])
    assert commit_times(segment_bytes(3), 3 * SIZE) is None
    # A recycled segment holds the records of an older one behind what was written of it.
    assert commit_times(segment_bytes(2, commits=commits), 5 * SIZE) is None


def test_a_damaged_or_moved_object_is_named(archive: WalArchive) -> None:
    put(archive, FIRST, segment_bytes(1))
    key = archive.key_of(FIRST)
    stored = bytearray(archive._store.get(key))
    other = named("000000010000000000000002")
    archive._store.put(archive.key_of(other), bytes(stored))
    with pytest.raises(CorruptObject, match=f"{other.text}.*{FIRST.text}"):
        archive.read(other)
    stored[100] ^= 1
    archive._store.put(key, bytes(stored))
    with pytest.raises(CorruptObject, match=key):
        archive.read(FIRST)
    with pytest.raises(WalMissing, match="0000000100000000000000FF"):
        archive.read(named("0000000100000000000000FF"))


class LastWins(MemoryStore):
    """A store that ignores conditions: another writer comes between its look and its write."""

    atomic_if_absent = False

    def __init__(self, rival: Bytes) -> None:
        super().__init__()
        self.rival = rival

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        if key.startswith("wal/"):
            super().put(key, self.rival)


def test_where_conditions_are_ignored_the_loser_of_a_race_learns_of_it() -> None:
    repository = new_repository_on(MemoryStore())
    rivals = WalArchive(MemoryStore(), repository.key, SYSTEM)
    put(rivals, FIRST, segment_bytes(1, seed=9))
    store = LastWins(rivals._store.get(rivals.key_of(FIRST)))
    with pytest.raises(WalConflict):
        put(WalArchive(store, repository.key, SYSTEM), FIRST, segment_bytes(1))


def test_two_writers_of_one_name_agree(archive: WalArchive) -> None:
    outcomes: list[object] = []

    def write(seed: int) -> None:
        try:
            outcomes.append(put(archive, FIRST, segment_bytes(1, seed=seed)))
        except WalConflict as error:
            outcomes.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (0, 0, 5, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 1
    assert sum(isinstance(outcome, WalConflict) for outcome in outcomes) == 2


def test_shipping_empties_the_spool(archive: WalArchive, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    fill(spool, 1, 2, 3)
    (spool / "00000002.history").write_text("1\t0/200000\tbecause\n")
    (spool / "000000010000000000000001.00000028.backup").write_text("START WAL LOCATION: 0/100028\n")
    (spool / ".000000010000000000000004.tmp").write_bytes(b"half")
    report = Shipper(archive, Spool(str(spool))).ship()
    assert (report.shipped, report.left, report.error) == (5, 0, None)
    assert sorted(os.listdir(spool)) == [".000000010000000000000004.tmp", "holdfast-cluster"]
    stock = archive.stock(SIZE)
    assert stock.segments == {1: frozenset({1, 2, 3})}
    assert stock.histories[2].contains(1, 0x200000)
    assert list(systems(archive._store)) == [SYSTEM]
    fill(spool, 3)
    assert Shipper(archive, Spool(str(spool))).ship().known == 1
    assert not (spool / FIRST.text).exists()


def test_what_cannot_be_shipped_stays_and_stops_no_other(archive: WalArchive, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    fill(spool, 2)
    (spool / FIRST.text).write_bytes(b"cut")
    report = Shipper(archive, Spool(str(spool))).ship()
    assert (report.shipped, report.left) == (1, 1)
    assert isinstance(report.error, WalConflict)
    assert [line.partition(":")[0] for line in report.failed] == [FIRST.text]
    assert (spool / FIRST.text).exists()


def test_what_differs_stops_its_timeline_there(archive: WalArchive, tmp_path: Path) -> None:
    """A server that was set back, or the twin of another: its later segments would make the archive look whole."""
    spool = tmp_path / "spool"
    for number in (1, 2):
        put(archive, named(f"{1:08X}{0:08X}{number:08X}"), segment_bytes(number, seed=4 * (number == 2)))
    fill(spool, 1, 2, 3, 4, 5)
    (spool / f"{2:08X}{0:08X}{4:08X}").write_bytes(segment_bytes(4, timeline=2))
    (spool / "00000002.history").write_text("1\t0/400000\tbecause\n")
    shipper = Shipper(archive, Spool(str(spool)))
    for known in (1, 0):
        report = shipper.ship()
        assert isinstance(report.error, WalConflict)
        assert report.known == known
        assert archive.stock(SIZE).segments == {1: frozenset({1, 2}), 2: frozenset({4})}
    assert sorted(name for name in os.listdir(spool) if name.startswith("0")) == [
        f"{1:08X}{0:08X}{number:08X}" for number in (2, 3, 4, 5)
    ]
    assert not (spool / "00000002.history").exists(), "another timeline is another matter"


def test_a_history_that_differs_stops_all_of_its_timeline(archive: WalArchive, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "00000002.history").write_text("1\t0/400000\tthe one\n")
    assert Shipper(archive, Spool(str(spool))).ship().shipped == 1
    (spool / "00000002.history").write_text("1\t0/500000\tthe other\n")
    (spool / f"{2:08X}{0:08X}{5:08X}").write_bytes(segment_bytes(5, timeline=2))
    report = Shipper(archive, Spool(str(spool))).ship()
    assert (report.shipped, report.left) == (0, 2)
    assert archive.stock(SIZE).segments == {}


def test_an_unfinished_segment_is_never_shipped_with_a_hole(
    archive: WalArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows while it is read: what was read first lacks a page that what is read then has behind it."""
    spool = tmp_path / "spool"
    spool.mkdir()
    partial = spool / "000000010000000000000003.partial"
    partial.write_bytes(segment_bytes(3, filled=8192))
    real = shipping._fill

    def slow(source: FileIO, view: memoryview) -> memoryview:
        real(source, view[: 3 * 8192])
        partial.write_bytes(segment_bytes(3, filled=4 * 8192))
        return view[: 3 * 8192 + len(real(source, view[3 * 8192 :]))]

    monkeypatch.setattr(shipping, "_fill", slow)
    shipper = Shipper(archive, Spool(str(spool)), receiving=True)
    assert shipper.ship().shipped == 1
    content = archive.read(named(partial.name))[1]
    assert content == segment_bytes(3, filled=4 * 8192)
    monkeypatch.setattr(shipping, "_fill", real)
    partial.write_bytes(segment_bytes(3, filled=6 * 8192))
    assert shipper.ship().shipped == 1, "it goes on from what is archived"


def test_a_store_that_refuses_everything_is_not_asked_for_each_file(tmp_path: Path) -> None:
    repository = new_repository_on(MemoryStore())
    refused = Fails(lambda: StoreDenied("no", which="the bucket"))
    store = FaultyStore(repository.store, Rule("put", "wal/*", refused, times=5))
    archive = WalArchive(store, repository.key, SYSTEM)
    spool = tmp_path / "spool"
    fill(spool, *range(1, 20))
    shipper = Shipper(archive, Spool(str(spool)), workers=2)
    report = shipper.ship()
    assert 2 <= len(report.failed) <= 3
    assert report.left == 19
    for _ in range(3):
        report = shipper.ship()
    assert report.left == 0


def test_a_damaged_object_is_replaced_while_the_spool_has_it_whole(archive: WalArchive, tmp_path: Path) -> None:
    put(archive, FIRST, segment_bytes(1))
    key = archive.key_of(FIRST)
    whole = archive._store.get(key)
    archive._store.put(key, whole[: len(whole) // 2])
    spool = tmp_path / "spool"
    fill(spool, 1)
    assert Shipper(archive, Spool(str(spool))).ship().shipped == 1
    assert archive.read(FIRST)[1] == segment_bytes(1)


def test_nothing_is_lost_while_the_store_is_away(tmp_path: Path) -> None:
    repository = new_repository_on(MemoryStore())
    store = FaultyStore(
        repository.store,
        Rule("put", "wal/*", Fails(), times=1),
        Rule("put", "wal/*", Lost(), at=2, times=1),
    )
    archive = WalArchive(store, repository.key, SYSTEM)
    spool = tmp_path / "spool"
    fill(spool, 1, 2, 3)
    shipper = Shipper(archive, Spool(str(spool)), workers=1)
    first = shipper.ship()
    assert first.left == 3
    assert len(first.failed) == 1, "the others wait for the next round: each would wait for the store as long again"
    assert isinstance(first.error, StoreUnavailable)
    second = shipper.ship()
    assert second.left == 3, "the answer got lost: the file stays, whatever was stored"
    third = shipper.ship()
    assert (third.left, third.known, third.shipped) == (0, 1, 2)
    assert archive.stock(SIZE).segments == {1: frozenset({1, 2, 3})}


def test_a_receiver_keeps_its_place(archive: WalArchive, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    fill(spool, 1, 2)
    partial = spool / "000000010000000000000003.partial"
    partial.write_bytes(segment_bytes(3, filled=5000))
    shipper = Shipper(archive, Spool(str(spool)), receiving=True)
    assert shipper.ship().shipped == 3
    assert sorted(os.listdir(spool)) == ["000000010000000000000002", partial.name, "holdfast-cluster"]
    assert shipper.ship().shipped + shipper.ship().known == 0
    partial.unlink()
    fill(spool, 3)
    assert shipper.ship().shipped == 1
    assert sorted(os.listdir(spool)) == ["000000010000000000000003", "holdfast-cluster"]
    assert not archive.has(named(partial.name))


def test_a_spool_belongs_to_one_cluster(archive: WalArchive, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    fill(spool, 1)
    Shipper(archive, Spool(str(spool))).ship()
    other = WalArchive(archive._store, archive._key, "99")
    with pytest.raises(WalNotReady, match="another cluster"):
        Shipper(other, Spool(str(spool))).ship()
    with pytest.raises(WalNotReady, match="cannot be written"):
        Shipper(archive, Spool(str(tmp_path / "missing"))).ship()


def test_restic_check_and_prune_leave_the_archive_alone(tmp_path: Path, referee: Restic, sample: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    backup_directory(repository, sample)
    archive = WalArchive(repository.store, repository.key, SYSTEM)
    put(archive, FIRST, segment_bytes(1))
    before = sorted(info.key for info in repository.store.list("wal"))
    assert not verify(repository).problems
    prune(repository, grace_hours=0, orphan_hours=0)
    referee(tmp_path / "repository", "check", "--read-data")
    referee(tmp_path / "repository", "prune")
    assert sorted(info.key for info in repository.store.list("wal")) == before
    assert archive.read(FIRST)[1] == segment_bytes(1)


def test_one_process_at_a_time_works_on_a_spool(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    with spool.alone():
        said = f"another process works on this spool.*process {os.getpid()} on "
        with pytest.raises(WalNotReady, match=said), Spool(str(tmp_path)).alone():
            pass
        assert not spool.waiting()
    with spool.alone():
        pass
    with pytest.raises(WalNotReady, match="cannot be written"), Spool(str(tmp_path / "missing")).alone():
        pass


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = f"""
import time
from holdfast.services.spool import Spool
with Spool({str(tmp_path)!r}).alone():
    print(flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(WalNotReady, match=f"process {other.pid} "), Spool(str(tmp_path)).alone():
            pass
    finally:
        other.kill()
        other.wait()
    with Spool(str(tmp_path)).alone():
        pass


def test_only_what_was_left_unfinished_is_swept(tmp_path: Path) -> None:
    old = (".000000010000000000000001.4711", ".00000002.history.12", ".holdfast-tmp-1-ab")
    stay = (FIRST.text, ".000000010000000000000001", ".profile.12", "notes", ".000000010000000000000002.x")
    for name in (*old, *stay):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1000, 1000))
    new = tmp_path / ".000000010000000000000003.99"
    new.write_bytes(b"x")
    moment = new.stat().st_mtime
    assert sorted(Spool(str(tmp_path)).sweep(moment + 60)) == sorted(old)
    assert sorted(os.listdir(tmp_path)) == sorted((*stay, new.name)), "one that is new may be at work"
    assert Spool(str(tmp_path)).sweep(moment + 3601) == [new.name]
    assert Spool(str(tmp_path / "missing")).sweep(moment) == []


def test_a_partial_segment_that_was_shipped_before_we_began_goes_with_the_whole_one(
    archive: WalArchive, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    fill(spool, 1)
    partial = spool / "000000010000000000000002.partial"
    partial.write_bytes(segment_bytes(2, filled=5000))
    Shipper(archive, Spool(str(spool)), receiving=True).ship()
    assert archive.has(named(partial.name))
    partial.unlink()
    fill(spool, 2, 3)
    Shipper(archive, Spool(str(spool)), receiving=True).ship()
    assert not archive.has(named(partial.name))
