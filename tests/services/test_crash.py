"""Killed at any step: the repository stays whole, nothing half-committed is listed, the next run goes on from there."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import HoldfastError, StoreFull, StoreUnavailable, TargetFull
from holdfast.repository.lock_objects import STALE_SECONDS, LockJson
from holdfast.repository.objects import Folder, save_object
from holdfast.repository.repository import open_repository
from holdfast.repository.snapshot import time_text
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.directory import DirectoryStore
from tests.repository.conftest import Restic
from tests.repository.conftest import referee as referee
from tests.support.faulty_store import Crashes, Fails, FaultyStore, Lost, Rule, SimulatedCrash
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen
from tests.support.trees import build_sample, describe


@pytest.fixture
def source(tmp_path: Path) -> Path:
    build_sample(tmp_path / "source", files=12)
    return tmp_path / "source"


def _forget_locks(path: Path) -> None:
    """A dead process's lock goes stale; this test's process lives on, so its locks are made old by hand."""
    for lock in path.glob("locks/*"):
        lock.unlink()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_crash_at_every_store_operation(
    tmp_path: Path, source: Path, referee: Restic, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    # One process works at a time here: a lock need not wait for others that take one at the same moment.
    monkeypatch.setattr("holdfast.repository.lock._SETTLE_SECONDS", 0.0)
    new_repository(tmp_path / "base")
    backup_directory(reopen(tmp_path / "base"), source)
    (source / "new").write_bytes(random.Random(1).randbytes(20_000))
    for at in range(1, 100):
        path = tmp_path / f"repo {at}"
        shutil.copytree(tmp_path / "base", path)
        store = FaultyStore(DirectoryStore(path), Rule("*", "*", Crashes(after=after), at=at))
        try:
            backup_directory(open_repository(store, PASSWORD), source)
        except SimulatedCrash:
            _forget_locks(path)
            found = verify(reopen(path), read_share=1)
            assert found.ok, found.problems
            assert len(reopen(path).snapshots().snapshots) in (1, 2)
        else:
            break
    assert 10 < at < 99
    last = tmp_path / f"repo {at - 1}"
    backup_directory(reopen(last), source)
    assert "no errors were found" in referee(last, "check", "--read-data")
    restore_directory(reopen(last), latest(reopen(last)), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)


def test_failed_and_lost_writes_are_no_success(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "repo"
    new_repository(path)
    for fault in (Fails(), Lost()):
        for key in ("data/*", "index/*", "snapshots/*"):
            store = FaultyStore(DirectoryStore(path), Rule("put", key, fault, times=None))
            with pytest.raises(StoreUnavailable):
                backup_directory(open_repository(store, PASSWORD), source)
            assert verify(reopen(path), read_share=1).ok
            assert not list((path / "locks").iterdir())
    # A snapshot whose acknowledgement got lost is whole: it was stored.
    assert len(reopen(path).snapshots().snapshots) == 1


def test_what_a_killed_run_uploaded_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "big").write_bytes(random.Random(1).randbytes(40 << 20))
    path = tmp_path / "repo"
    new_repository(path)
    store = FaultyStore(DirectoryStore(path), Rule("put", "data/*", Fails(), at=2, times=None))
    with pytest.raises(HoldfastError):
        backup_directory(open_repository(store, PASSWORD), tmp_path / "source")
    report = backup_directory(reopen(path), tmp_path / "source").sources[0]
    assert report.bytes_added < 30 << 20


_BACKUP = """
import sys
from pathlib import Path
from tests.support.repositories import backup_directory, reopen
backup_directory(reopen(sys.argv[1]), Path(sys.argv[2]))
"""


def test_kill_nine_at_any_moment(tmp_path: Path, referee: Restic) -> None:
    source, path = tmp_path / "source", tmp_path / "repo"
    source.mkdir()
    new_repository(path)
    chance = random.Random(7)
    for round_ in range(8):
        (source / f"data {round_}").write_bytes(chance.randbytes(12 << 20))
        child = subprocess.Popen([sys.executable, "-c", _BACKUP, path, source], cwd=Path(__file__).parents[2])
        time.sleep(0.25 + chance.random() * 0.5)
        child.send_signal(signal.SIGKILL)
        child.wait()
        found = verify(reopen(path), read_share=1)  # its lock names a dead process: removed, not waited for
        assert found.ok, found.problems
    backup_directory(reopen(path), source)
    assert "no errors were found" in referee(path, "check", "--read-data")
    restore_directory(reopen(path), latest(reopen(path)), tmp_path / "out")
    assert describe(tmp_path / "out") == describe(source)


def test_old_lock_of_another_host_is_removed(tmp_path: Path, source: Path) -> None:
    repository = new_repository(tmp_path / "repo")
    for age, goes in ((STALE_SECONDS + 60, True), (60, False)):
        when = time_text(datetime.now(UTC) - timedelta(seconds=age))
        lock = LockJson(time=when, exclusive=True, hostname="elsewhere", username="root", pid=1)
        name = save_object(repository.store, repository.key, Folder.LOCKS, msgspec.json.encode(lock))
        os.utime(tmp_path / "repo" / "locks" / name, (time.time() - age, time.time() - age))
        if goes:
            backup_directory(repository, source)
            assert not list((tmp_path / "repo" / "locks").iterdir())
        else:
            with pytest.raises(HoldfastError, match=r"locked exclusively.*root@elsewhere"):
                backup_directory(repository, source)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small filesystem")
def test_full_disk_while_restoring_and_while_storing(tmp_path: Path, source: Path) -> None:
    (source / "too big").write_bytes(random.Random(3).randbytes(6 << 20))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "holdfast-test", small], check=True)
    try:
        repository = new_repository(tmp_path / "repo")
        backup_directory(repository, source)
        with pytest.raises(TargetFull, match="no room left"):
            restore_directory(repository, latest(repository), small / "out")
        assert not list(small.iterdir())
        with pytest.raises(StoreFull):
            backup_directory(new_repository(small / "repo"), source)
        assert not reopen(small / "repo").snapshots().snapshots
        assert verify(reopen(small / "repo"), read_share=1).ok
    finally:
        subprocess.run(["umount", small], check=True)
