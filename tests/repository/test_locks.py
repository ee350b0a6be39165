"""Locks: as restic's, refreshed, never lost to a wrong clock, and never in the way for long."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import RepositoryError, RepositoryLocked, StoreUnavailable
from holdfast.repository import lock as locks
from holdfast.repository.lock_objects import Held, LockJson, list_locks, place_of_this_process
from holdfast.repository.objects import Folder, save_object
from holdfast.repository.repository import Repository, open_repository
from holdfast.repository.snapshot import time_text
from holdfast.repository.unlocking import unlock
from holdfast.store.base import Bytes, ObjectInfo
from holdfast.store.directory import DirectoryStore
from tests.repository.conftest import Restic
from tests.support.faulty_store import Fails, FaultyStore, Rule
from tests.support.memory_store import MemoryStore
from tests.support.repositories import PASSWORD, new_repository, new_repository_on, reopen

WEEKS = timedelta(weeks=3).total_seconds()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    new_repository(tmp_path / "repository")
    return tmp_path / "repository"


def _leave(path: Path, *, said: float, written: float, exclusive: bool = True, host: str = "elsewhere") -> str:
    """A lock of another host: its own clock says `said` seconds from now, the store wrote it at `written`."""
    repository = reopen(path)
    when = time_text(datetime.now(UTC) + timedelta(seconds=said))
    held = LockJson(time=when, exclusive=exclusive, hostname=host, username="root", pid=1)
    name = save_object(repository.store, repository.key, Folder.LOCKS, msgspec.json.encode(held))
    os.utime(path / "locks" / name, (time.time() + written,) * 2)
    return name


@pytest.mark.parametrize(
    ("said", "written", "blocks"),
    [
        pytest.param(-60, -60, True, id="alive"),
        pytest.param(-WEEKS, -60, True, id="alive, its clock is weeks behind"),
        pytest.param(WEEKS, -60, True, id="alive, its clock is weeks ahead"),
        pytest.param(-2400, -2400, False, id="dead"),
        pytest.param(WEEKS, -2400, False, id="dead, its clock was weeks ahead"),
        pytest.param(-WEEKS, -WEEKS, False, id="dead for weeks"),
    ],
)
def test_the_stores_clock_decides(
    path: Path, caplog: pytest.LogCaptureFixture, said: float, written: float, blocks: bool
) -> None:
    name = _leave(path, said=said, written=written)
    expected = pytest.raises(RepositoryLocked, match="root@elsewhere") if blocks else contextlib.nullcontext()
    with caplog.at_level(logging.WARNING), expected, reopen(path).lock():
        pass
    assert (path / "locks" / name).exists() == blocks
    assert len(list((path / "locks").iterdir())) == blocks
    assert any("removing the stale lock" in record.message for record in caplog.records) != blocks


@pytest.mark.parametrize("off", [-WEEKS, -3600.0, 3600.0, WEEKS])
def test_our_own_wrong_clock_takes_nobodys_lock(path: Path, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    alive = _leave(path, said=-60, written=-60)
    real = time.time
    monkeypatch.setattr("holdfast.repository.lock_objects.time.time", lambda: real() + off)
    with pytest.raises(RepositoryLocked), reopen(path).lock():
        pass
    assert [file.name for file in (path / "locks").iterdir()] == [alive]


@pytest.mark.parametrize(
    ("said", "written", "goes"),
    [(-60, -60, False), (-WEEKS, -60, False), (WEEKS, -60, False), (WEEKS, -2400, True), (-2400, -2400, True)],
)
def test_by_hand_the_stores_clock_decides_too(path: Path, said: float, written: float, goes: bool) -> None:
    name = _leave(path, said=said, written=written)
    repository = reopen(path)
    done = unlock(repository.store, repository.key)
    assert [held.name for held in (done.removed if goes else done.kept)] == [name]
    assert [file.name for file in (path / "locks").iterdir()] == ([] if goes else [name])


class WithoutTimes(DirectoryStore):
    """A store that does not say when anything was written, as the contract allows."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`."""
        return (replace(info, modified=None) for info in super().list(prefix))


def test_without_the_stores_clock_only_all_locks_can_be_taken_away(path: Path) -> None:
    name = _leave(path, said=-WEEKS, written=-WEEKS)
    repository = open_repository(WithoutTimes(path), PASSWORD)
    with pytest.raises(RepositoryError, match="does not tell when") as caught:
        unlock(repository.store, repository.key)
    assert "--all" in (caught.value.hint or "")
    assert [file.name for file in (path / "locks").iterdir()] == [name]
    assert len(unlock(repository.store, repository.key, everything=True).removed) == 1
    assert not list((path / "locks").iterdir())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks that are refreshed five times a second."""
    monkeypatch.setattr(locks, "REFRESH_SECONDS", 0.2)
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)


@pytest.mark.usefixtures("hasty")
def test_a_lock_is_refreshed_and_old_ones_go(path: Path) -> None:
    with reopen(path).lock(exclusive=True) as held:
        first, names = held.name, set()
        for _ in range(15):
            time.sleep(0.1)
            names |= {file.name for file in (path / "locks").iterdir()}
            held.ensure_held()
        assert len(names - {first}) >= 3
        assert len(list((path / "locks").iterdir())) <= 2
        with pytest.raises(RepositoryLocked), reopen(path).lock():
            pass
    assert not list((path / "locks").iterdir())


@pytest.mark.usefixtures("hasty")
def test_a_lock_that_cannot_be_refreshed_is_lost_and_that_is_said(path: Path) -> None:
    store = FaultyStore(DirectoryStore(path))
    with open_repository(store, PASSWORD).lock(exclusive=True) as held:
        store.plan.append(Rule("put", "locks/*", Fails(lambda: StoreUnavailable("down")), times=None))
        held.ensure_held()
        time.sleep(1.2)
        with pytest.raises(RepositoryLocked, match="was lost"):
            held.ensure_held()


def test_restic_respects_our_lock_and_we_respect_its(path: Path, referee: Restic) -> None:
    with reopen(path).lock(exclusive=True):
        assert "locked exclusively" in referee(path, "check", check=False)
    with reopen(path).lock():
        assert "no errors" in referee(path, "check", "--no-lock")
        assert "already locked" in referee(path, "check", check=False)  # it wants to be alone
    assert "no errors" in referee(path, "check")


_HOLDER = """
import sys, time
from tests.support.repositories import reopen
with reopen(sys.argv[1]).lock(exclusive=True):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_process_that_was_killed_here_goes_at_once(path: Path) -> None:
    root = Path(__file__).parents[2]
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, path], cwd=root, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RepositoryLocked), reopen(path).lock():
        pass
    holder.kill()
    holder.wait()
    with reopen(path).lock(exclusive=True):
        assert len(_held(reopen(path))) == 1


@pytest.mark.parametrize(
    ("place", "host", "goes"),
    [
        pytest.param("another boot pid:[1]", "ours", False, id="a clone of this machine"),
        pytest.param(place_of_this_process(), "ours", True, id="a process of ours that is gone"),
        pytest.param(place_of_this_process(), "elsewhere", True, id="a container of another name beside us"),
        pytest.param("", "ours", True, id="restic's, of this host"),
        pytest.param("", "elsewhere", False, id="restic's, of another"),
    ],
)
def test_a_process_is_gone_only_where_its_number_counts(path: Path, place: str, host: str, goes: bool) -> None:
    assert place_of_this_process()
    gone = subprocess.Popen(["true"])
    gone.wait()
    repository = reopen(path)
    held = LockJson(
        time=time_text(datetime.now(UTC)),
        exclusive=True,
        hostname=socket.gethostname() if host == "ours" else host,
        username="root",
        pid=gone.pid,
        place=place,
    )
    save_object(repository.store, repository.key, Folder.LOCKS, msgspec.json.encode(held))
    expected = contextlib.nullcontext() if goes else pytest.raises(RepositoryLocked)
    with expected, repository.lock():
        pass


def _held(repository: Repository) -> list[Held]:
    return list_locks(repository.store, repository.key)


def test_a_lock_that_others_took_away_is_lost_for_good(path: Path) -> None:
    """The network was away, another host removed it and pruned: nothing may be committed on top of that."""
    repository = reopen(path)
    with repository.lock() as lock:
        (path / "locks" / lock.name).unlink()
        lock.ensure_held()  # by the clock it is fresh
        with pytest.raises(RepositoryLocked):
            lock.ensure_there()
        with pytest.raises(RepositoryLocked):
            lock.write()
        with pytest.raises(RepositoryLocked):
            lock.ensure_held()
        assert not list((path / "locks").iterdir())


@pytest.mark.parametrize("number", [1, 2])
def test_who_is_interrupted_while_its_lock_is_written_leaves_none(number: int) -> None:
    """By the first write, or by a refresh: the store has it, and nobody was told."""

    class Interrupting(MemoryStore):
        puts = 0

        def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
            super().put(key, data, if_absent=if_absent)
            if key.startswith(Folder.LOCKS):
                self.puts += 1
                if self.puts == number:
                    raise KeyboardInterrupt

    store = Interrupting()
    repository = new_repository_on(store)
    with pytest.raises(KeyboardInterrupt), repository.lock() as lock:
        lock.write()
    assert store.puts == number
    assert not list(store.list(Folder.LOCKS))
