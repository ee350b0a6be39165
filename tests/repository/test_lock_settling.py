"""A lock that is used before it settled: nothing is stored or believed until it is known that nobody else came."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from holdfast.errors import RepositoryLocked, StoreDenied
from holdfast.repository.lock import Lock, hold_lock
from holdfast.repository.lock_objects import LockJson
from holdfast.repository.objects import Folder, save_object
from holdfast.repository.repository import Repository, open_repository
from holdfast.repository.snapshot import time_text
from holdfast.services.restore import restore_directory
from holdfast.services.verify import verify
from holdfast.store.base import Bytes
from holdfast.store.directory import DirectoryStore
from tests.support.faulty_store import Fails, FaultyStore, Rule
from tests.support.repositories import PASSWORD, backup_directory, latest, new_repository, reopen


class _Crowded(DirectoryStore):
    """Whoever writes a lock here does it at the same time as another, who wants to be alone."""

    other: tuple[str, bytes] | None = None

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        super().put(key, data, if_absent=if_absent)
        if self.other is not None and key.startswith(Folder.LOCKS):
            super().put(*self.other)


@pytest.fixture
def crowded(tmp_path: Path) -> Repository:

    repository = new_repository(tmp_path / "repository")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(bytes(100))
    backup_directory(repository, tmp_path / "data")
    document = LockJson(time=time_text(datetime.now(UTC)), exclusive=True, hostname="elsewhere", username="root", pid=1)
    name = save_object(repository.store, repository.key, Folder.LOCKS, msgspec.json.encode(document))
    path = tmp_path / "repository" / "locks" / name
    store = _Crowded(tmp_path / "repository")
    store.other = f"{Folder.LOCKS}/{name}", path.read_bytes()
    path.unlink()
    return open_repository(store, PASSWORD)


def _stored(tmp_path: Path) -> set[str]:
    paths = (tmp_path / "repository").rglob("*")
    return {str(path.relative_to(tmp_path)) for path in paths if path.is_file() and path.parent.name != "locks"}


def test_a_backup_stores_nothing(tmp_path: Path, crowded: Repository) -> None:
    before = _stored(tmp_path)
    (tmp_path / "data" / "file").write_bytes(bytes(range(256)) * 100)
    with pytest.raises(RepositoryLocked, match="root@elsewhere"):
        backup_directory(crowded, tmp_path / "data")
    assert _stored(tmp_path) == before


def test_a_restore_writes_nothing_and_a_check_says_nothing(tmp_path: Path, crowded: Repository) -> None:
    with pytest.raises(RepositoryLocked, match="root@elsewhere"):
        restore_directory(crowded, latest(crowded), tmp_path / "target")
    assert not (tmp_path / "target").exists() or not list((tmp_path / "target").iterdir())
    (tmp_path / "repository" / "locks" / next(iter(_locks(tmp_path)))).unlink()
    with pytest.raises(RepositoryLocked, match="root@elsewhere"):
        verify(crowded, read_share=1)


def test_the_lock_that_lost_is_given_back(tmp_path: Path, crowded: Repository) -> None:
    with crowded.lock(settled=False) as lock:
        assert len(_locks(tmp_path)) == 2
        with pytest.raises(RepositoryLocked, match="root@elsewhere"):
            lock.settle()
        assert len(_locks(tmp_path)) == 1
        for again in (lock.settle, lock.ensure_held, lock.ensure_there):
            with pytest.raises(RepositoryLocked):
                again()


def test_a_settled_lock_does_not_ask_again(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    waited: list[float] = []

    with hold_lock(repository.store, repository.key, exclusive=False, settled=False, sleep=waited.append) as lock:
        assert waited == []
        lock.settle()
        lock.settle()
        lock.ensure_there()
    assert len(waited) == 1
    assert 0 < waited[0] <= 0.2


class _Slow(DirectoryStore):
    """Before the first lock arrives here, another has settled and works alone."""

    other: ExitStack | None = None

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        if self.other is not None and key.startswith(Folder.LOCKS):
            other, self.other = self.other, None
            other.enter_context(reopen(self.location).lock(exclusive=True))
        super().put(key, data, if_absent=if_absent)


def test_nothing_is_read_beside_one_who_settled_before_our_lock_arrived(tmp_path: Path) -> None:
    """He may be done before ours settles: then nothing tells any more that what was read is not true."""
    new_repository(tmp_path / "repository")
    store = _Slow(tmp_path / "repository")
    with ExitStack() as store.other:
        alone = store.other
        with pytest.raises(RepositoryLocked, match="exclusively"), open_repository(store, PASSWORD).lock(settled=False):
            pass
        assert alone is not store.other
        assert len(_locks(tmp_path)) == 1


@pytest.mark.parametrize("exclusive", [True, False])
def test_nothing_is_read_beside_one_whose_clock_is_wrong(tmp_path: Path, exclusive: bool) -> None:
    repository = new_repository(tmp_path / "repository")
    when = time_text(datetime.now(UTC) - timedelta(hours=2))
    held = LockJson(time=when, exclusive=exclusive, hostname="elsewhere", username="root", pid=1)
    save_object(repository.store, repository.key, Folder.LOCKS, msgspec.json.encode(held))
    if exclusive:
        with pytest.raises(RepositoryLocked, match="root@elsewhere"), repository.lock(settled=False):
            pass
    else:
        with repository.lock(settled=False):
            pass
    assert len(_locks(tmp_path)) == 1


def test_who_may_not_remove_a_stale_lock_still_restores(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"content")
    backup_directory(repository, tmp_path / "data")
    when = time_text(datetime.now(UTC) - timedelta(hours=2))
    held = LockJson(time=when, exclusive=False, hostname="elsewhere", username="root", pid=1)
    name = save_object(repository.store, repository.key, Folder.LOCKS, msgspec.json.encode(held))
    os.utime(tmp_path / "repository" / "locks" / name, (time.time() - 7200,) * 2)
    store = FaultyStore(repository.store, Rule("delete", "locks/*", Fails(lambda: StoreDenied("no")), times=None))
    restore_directory(open_repository(store, PASSWORD), latest(repository), tmp_path / "target")
    assert (tmp_path / "target" / "file").read_bytes() == b"content"


def test_a_lock_that_was_given_back_is_not_written_again(tmp_path: Path, crowded: Repository) -> None:
    with crowded.lock(settled=False) as lost:
        with pytest.raises(RepositoryLocked, match="root@elsewhere"):
            lost.settle()
        _refresh_late(lost)
        assert len(_locks(tmp_path)) == 1
    (tmp_path / "repository" / "locks" / _locks(tmp_path)[0]).unlink()
    with reopen(tmp_path / "repository").lock() as done:
        pass
    _refresh_late(done)
    assert not _locks(tmp_path)


@pytest.mark.parametrize(("where", "what"), [(Lock, "announce"), (Thread, "start")])
def test_an_interrupt_while_it_is_taken_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: type, what: str
) -> None:
    repository = new_repository(tmp_path / "repository")
    plain = getattr(where, what)

    def interrupted(self: object) -> None:
        plain(self)
        if not isinstance(self, Thread) or self.name == "lock-refresh":
            raise KeyboardInterrupt

    monkeypatch.setattr(where, what, interrupted)
    with pytest.raises(KeyboardInterrupt), repository.lock(settled=False):
        pass
    assert not _locks(tmp_path)
    for thread in threading.enumerate():
        if thread.name == "lock-refresh":
            thread.join(5)
            assert not thread.is_alive()


def _refresh_late(lock: Lock) -> None:
    """As the thread that refreshes, when its time came just before the lock was given back."""
    lock.write()


def _locks(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "repository" / "locks").iterdir()]
