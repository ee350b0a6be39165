"""Large files are read beside the walk: it goes on, not far, and what happens to them is told as ever."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.model.entry import Entry
from holdfast.model.ids import BlobId
from holdfast.repository import cutting
from holdfast.repository.archive import TreeArchiver
from holdfast.repository.file_capture import TreeStats
from holdfast.repository.local_file import open_file
from holdfast.repository.pack import BlobKind
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository, open_repository
from holdfast.repository.whole_files import WHOLE_FILE
from holdfast.sources.tree import TreeSource
from holdfast.store.directory import DirectoryStore
from tests.support.faulty_store import Fails, FaultyStore, Rule
from tests.support.repositories import PASSWORD, new_repository

LARGE = WHOLE_FILE + 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    for name in ("1", "2", "3"):
        (tmp_path / "root" / name).write_bytes(name.encode() * LARGE)
    (tmp_path / "root" / "4 small").write_bytes(b"small")
    return tmp_path / "root"


def _entries(root: Path) -> list[Entry]:
    return [entry for entry in TreeSource(root, label="test").entries() if entry.path]


def _capture(repository: Repository, entries: list[Entry]) -> tuple[TreeArchiver, str]:
    with repository.writer(level=0) as blobs:
        archiver = TreeArchiver(blobs, repository.reader)
        for entry in entries:
            archiver.add(entry)
        tree = archiver.finish()
        blobs.finish()
    return archiver, tree


class _Gate:
    """Files open only when they are let through; how many asked is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let, self.asked = threading.Semaphore(0), 0
        monkeypatch.setattr(cutting, "open_file", self._open)

    def _open(self, path: bytes) -> int:
        self.asked += 1
        assert self.let.acquire(timeout=20)
        return open_file(path)


def test_the_walk_goes_on_but_not_far(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository(tmp_path / "repository")
    gate = _Gate(monkeypatch)
    told: list[TreeStats] = []
    with repository.lock(), repository.writer() as blobs:
        archiver = TreeArchiver(blobs, repository.reader, on_progress=told.append)
        first, second, third, small = _entries(root)
        archiver.add(first)
        archiver.add(second)  # returned though nothing was read
        waits = threading.Thread(target=archiver.add, args=(third,))
        waits.start()
        waits.join(1.2)
        assert waits.is_alive()
        assert gate.asked == 1
        assert told  # somebody looks at a bar meanwhile
        gate.let.release(3)
        waits.join(20)
        archiver.add(small)
        tree = archiver.finish()
        blobs.finish()
    repository.refresh()
    found = dict(walk(repository.reader, tree))
    assert sorted(found) == [b"1", b"2", b"3", b"4 small"]
    assert found[b"3"].size == LARGE
    whole = b"".join(repository.reader.load(BlobKind.DATA, _id(blob)) for blob in found[b"3"].blobs)
    assert hashlib.sha256(whole).digest() == hashlib.sha256(b"3" * LARGE).digest()


def test_a_store_that_fails_ends_the_capture(tmp_path: Path, root: Path) -> None:
    new_repository(tmp_path / "repository")
    store = FaultyStore(
        DirectoryStore(tmp_path / "repository"),
        Rule("put", "data/*", Fails(lambda: StoreUnavailable("the store is gone")), times=None),
    )
    repository = open_repository(store, PASSWORD)
    before = threading.active_count()
    with pytest.raises(StoreUnavailable, match="the store is gone"):
        _capture(repository, _entries(root))
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_large_file_that_vanished_is_told(tmp_path: Path, root: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    entries = _entries(root)
    (root / "2").unlink()
    archiver, tree = _capture(repository, entries)
    repository.refresh()
    assert archiver.stats.notes == ["2: vanished while it was read"]
    assert [path for path, _ in walk(repository.reader, tree)] == [b"1", b"3", b"4 small"]


def _id(text: str) -> BlobId:
    return BlobId(bytes.fromhex(text))
