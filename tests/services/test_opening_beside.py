"""A repository that is opened beside other work: who needs it waits, and a directory is looked at meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.errors import SourceNotFound, WrongPassword
from holdfast.model.entry import Entry
from holdfast.repository.reader import walk
from holdfast.repository.repository import Opened, begin_opening, opened_with
from holdfast.repository.tree import Node
from holdfast.services.backup import take_backup
from holdfast.sources import tree
from holdfast.sources.tree import TreeSource
from holdfast.store.directory import DirectoryStore
from tests.support.repositories import PASSWORD, latest, new_repository
from tests.support.trees import build_sample


class _Door:
    """A repository that opens once it is let."""

    def __init__(self, folder: Path, password: str = PASSWORD) -> None:
        self.let = threading.Event()
        self._store, self._password = DirectoryStore(folder), password
        self.repository = begin_opening(self._store.location, self._open)

    def _open(self) -> Opened:
        assert self.let.wait(20)
        return opened_with(self._store, self._password)


class _Watched(TreeSource):
    """Looks ahead as far as there is something to see, or `most`; then something happens, and the door is let open."""

    def __init__(self, root: Path, door: _Door, most: int = 1000, then: Callable[[], object] = lambda: None) -> None:
        super().__init__(root, label="test")
        self._door, self._most, self._then = door, most, then
        self.looked: list[bytes] = []

    def look_ahead(self, waiting: Callable[[], bool]) -> None:
        assert waiting()
        super().look_ahead(lambda: waiting() and len(self._ahead) < self._most)
        self.looked = [entry.path for entry in self._ahead]
        self._then()
        self._door.let.set()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    build_sample(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def door(tmp_path: Path) -> _Door:
    new_repository(tmp_path / "repository")
    return _Door(tmp_path / "repository")


def _captured(door: _Door, source: TreeSource) -> dict[bytes, Node]:
    take_backup(door.repository, "test", [source])
    door.repository.refresh()
    found = walk(door.repository.reader, latest(door.repository).tree)
    return {path.removeprefix(b"data/"): node for path, node in found if path.startswith(b"data/")}


def _plain(entries: list[Entry]) -> list[bytes]:
    return [entry.path for entry in entries]


@pytest.mark.parametrize("most", [0, 1, 10, 1000])
def test_what_was_looked_at_meanwhile_and_the_rest_are_captured(root: Path, door: _Door, most: int) -> None:
    wanted = _plain(list(TreeSource(root, label="test").entries()))
    source = _Watched(root, door, most)
    assert sorted(_captured(door, source)) == sorted(filter(None, wanted))
    assert source.looked == wanted[:most]


def test_a_file_that_changes_after_it_was_looked_at_is_captured_as_it_is(root: Path, door: _Door) -> None:
    changed, gone = [path for path in sorted(root.rglob("*")) if path.is_file()][:2]

    def happens() -> None:
        changed.write_bytes(b"new content")
        gone.unlink()

    found = _captured(door, _Watched(root, door, then=happens))
    assert found[bytes(changed.relative_to(root))].size == len(b"new content")
    assert bytes(gone.relative_to(root)) not in found


def test_it_looks_ahead_only_so_far(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_MOST_AHEAD", 5)
    source = TreeSource(root, label="test")
    source.look_ahead(lambda: True)
    assert len(source._ahead) == 5
    assert _plain(list(source.entries())) == _plain(list(TreeSource(root, label="test").entries()))
    assert _plain(list(source.entries())) == _plain(list(TreeSource(root, label="test").entries()))  # and once more


def test_what_is_wrong_with_it_is_told_when_it_is_needed(tmp_path: Path, root: Path) -> None:
    new_repository(tmp_path / "repository")
    door = _Door(tmp_path / "repository", "another password")
    assert door.repository.opening
    assert str(tmp_path) in door.repository.location
    with door.repository, pytest.raises(WrongPassword):
        take_backup(door.repository, "test", [_Watched(root, door)])
    assert not list((tmp_path / "repository").glob("snapshots/*"))


def test_a_source_that_is_not_there_is_told_before_the_repository_is_open(tmp_path: Path, door: _Door) -> None:
    with door.repository, pytest.raises(SourceNotFound):
        take_backup(door.repository, "test", [_Watched(tmp_path / "nowhere", door)])
    assert door.repository.opening
    door.let.set()
