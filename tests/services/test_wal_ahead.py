"""Fetching WAL ahead: the next segments lie there, whole; what is wrong with them hurts nobody before its turn."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from holdfast.errors import CorruptObject, WalMissing
from holdfast.model.wal import WalSegment
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services import wal_ahead
from holdfast.services.shipping import header_for
from holdfast.services.wal_ahead import fetch_with_next
from tests.support.memory_store import MemoryStore
from tests.support.repositories import new_repository_on
from tests.support.wal import SIZE, SYSTEM, named, segment_bytes

LAST = 12
AHEAD = 5


@pytest.fixture(autouse=True)
def five_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_ahead, "AHEAD", AHEAD * SIZE)


@pytest.fixture
def repository() -> Repository:
    """Whole segments 1 to 12 are archived, of 13 what was written by then; 14 is there again."""
    made = new_repository_on(MemoryStore())
    archive = WalArchive(made.store, made.key, SYSTEM)
    for number in (*range(1, LAST + 1), LAST + 2):
        _put(archive, _name(number), segment_bytes(number))
    _put(archive, f"{_name(LAST + 1)}.partial", segment_bytes(LAST + 1, filled=SIZE // 2))
    return made


def _put(archive: WalArchive, text: str, data: bytes) -> None:
    archive.put(named(text), data, header_for(SYSTEM, named(text), data))


def _name(number: int, timeline: int = 1) -> str:
    return WalSegment(timeline, number, SIZE).name


def _asked(repository: Repository, folder: Path, number: int) -> list[int]:
    """Ask for a segment as a server does; the numbers of those that lie there afterwards, which must be whole."""
    target = folder / "RECOVERYXLOG"
    fetch_with_next(repository, SYSTEM, _name(number), str(target), str(folder / "ahead"))
    assert target.read_bytes()[: SIZE // 2] == segment_bytes(number)[: SIZE // 2]
    there = {_name(other): other for other in range(1, 40)}
    found = sorted(there[name] for name in os.listdir(folder / "ahead"))
    for other in found:
        assert (folder / "ahead" / _name(other)).read_bytes() == segment_bytes(other)
    return found


def test_the_next_ones_come_along_and_those_behind_go(repository: Repository, tmp_path: Path) -> None:
    assert _asked(repository, tmp_path, 1) == [2, 3, 4, 5, 6]
    kept = (tmp_path / "ahead" / _name(6)).stat()
    assert _asked(repository, tmp_path, 4) == [5, 6, 7, 8, 9]
    assert (tmp_path / "ahead" / _name(6)).stat().st_ino == kept.st_ino, "it was there, and was not fetched again"


def test_at_the_end_only_what_is_whole_comes_along(repository: Repository, tmp_path: Path) -> None:
    assert _asked(repository, tmp_path, LAST - 1) == [LAST, LAST + 2]
    assert _asked(repository, tmp_path, LAST + 1) == [LAST + 2]
    with pytest.raises(WalMissing):
        _asked(repository, tmp_path, LAST + 3)


def test_one_that_is_damaged_is_told_when_it_is_asked_for(repository: Repository, tmp_path: Path) -> None:
    key = WalArchive(repository.store, repository.key, SYSTEM).key_of(named(_name(3)))
    stored = bytearray(repository.store.get(key))
    stored[len(stored) // 2] ^= 1
    repository.store.put(key, bytes(stored))
    assert _asked(repository, tmp_path, 1) == [2, 4, 5, 6]
    with pytest.raises(CorruptObject, match=_name(3)):
        _asked(repository, tmp_path, 3)


def test_another_timelines_segments_behind_it_go_too(repository: Repository, tmp_path: Path) -> None:
    _asked(repository, tmp_path, 1)
    archive = WalArchive(repository.store, repository.key, SYSTEM)
    _put(archive, _name(3, timeline=2), segment_bytes(3, timeline=2))
    fetch_with_next(repository, SYSTEM, _name(3, timeline=2), str(tmp_path / "target"), str(tmp_path / "ahead"))
    assert os.listdir(tmp_path / "ahead") == []


def test_what_is_of_another_branch_does_not_come_along(repository: Repository, tmp_path: Path) -> None:
    """The old primary went on after segment 4, where timeline 2 begins: nobody would check again what lies there."""
    archive = WalArchive(repository.store, repository.key, SYSTEM)
    switch = f"{WalSegment(1, 4, SIZE).begin + 100:016X}"
    _put(archive, "00000002.history", f"1\t{switch[:8].lstrip('0') or 0}/{switch[8:]}\tno recovery target\n".encode())
    fetch_with_next(repository, SYSTEM, _name(1), str(tmp_path / "target"), str(tmp_path / "ahead"), timeline=2)
    assert sorted(os.listdir(tmp_path / "ahead")) == [_name(2), _name(3)]


def test_without_a_folder_the_file_itself_comes(
    repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ahead").write_text("in the way")
    target = tmp_path / "target"
    with caplog.at_level(logging.WARNING):
        fetch_with_next(repository, SYSTEM, _name(1), str(target), str(tmp_path / "ahead"))
    assert target.read_bytes() == segment_bytes(1)
    assert "no WAL is fetched ahead" in caplog.text


def test_segments_that_are_larger_than_all_of_it_come_alone(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_ahead, "AHEAD", SIZE - 1)
    assert _asked(repository, tmp_path, 1) == []
