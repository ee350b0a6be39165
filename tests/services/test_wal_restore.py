"""WAL out of an archive: the same bytes, checked before they are written, as many at work as there are cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from holdfast.errors import CorruptObject, RestoreError, WalMissing
from holdfast.model.wal import WalName
from holdfast.repository.cores import cores, workers_for
from holdfast.repository.wal_archive import WalArchive, WalHeader
from holdfast.services import wal_restore
from holdfast.services.shipping import header_for
from holdfast.services.wal_restore import FETCHING, bring_all
from tests.support.memory_store import MemoryStore
from tests.support.repositories import new_repository_on
from tests.support.wal import SIZE, SYSTEM, named, segment_bytes

NAMES = [named(f"{1:08X}{0:08X}{number:08X}") for number in range(1, 21)]
JOBS = [(name, name.text) for name in NAMES]


class Watched(WalArchive):
    """Counts how many threads ask the store, and how many have content in hand, at the same time."""

    def __init__(self, archive: WalArchive) -> None:
        super().__init__(archive._store, archive._key, archive.system)
        self.asking, self.working = Most(), Most()
        self.all_ask = threading.Barrier(FETCHING, timeout=20)

    def sealed(self, name: WalName) -> bytes:
        with self.asking:
            if self.asking.calls <= FETCHING and not self.all_ask.broken:  # the first ones wait for each other
                self.all_ask.wait()
            return super().sealed(name)

    def pieces(self, name: WalName, sealed: bytes, buffer: bytearray) -> Iterator[memoryview]:
        with self.working:
            yield from super().pieces(name, sealed, buffer)


class Most:
    """The most that were inside at the same time."""

    def __init__(self) -> None:
        self._lock, self._now = threading.Lock(), 0
        self.seen = self.calls = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.calls += 1
            self.seen = max(self.seen, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


@pytest.fixture
def archive() -> WalArchive:
    repository = new_repository_on(MemoryStore())
    made = WalArchive(repository.store, repository.key, SYSTEM)
    for number, name in enumerate(NAMES, 1):
        data = segment_bytes(number)
        made.put(name, data, header_for(SYSTEM, name, data))
    return made


def test_many_wait_for_the_store_and_as_many_work_as_there_are_cores(archive: WalArchive, tmp_path: Path) -> None:
    watched, told = Watched(archive), list[int]()
    assert bring_all(watched, JOBS, str(tmp_path), segment_size=SIZE, notify=told.append) == 20 * SIZE
    assert [(tmp_path / text).read_bytes() for _, text in JOBS] == [segment_bytes(n) for n in range(1, 21)]
    assert told == [SIZE] * 20
    assert watched.asking.seen == FETCHING
    assert 1 <= watched.working.seen <= workers_for(cores())


def test_large_segments_are_held_one_at_a_time(
    archive: WalArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal_restore, "_IN_MEMORY", SIZE)
    watched = Watched(archive)
    watched.all_ask.abort()
    bring_all(watched, JOBS, str(tmp_path), segment_size=SIZE)
    assert watched.asking.seen == 1


def test_what_is_missing_and_what_is_in_the_way(archive: WalArchive, tmp_path: Path) -> None:
    (tmp_path / NAMES[0].text).write_bytes(b"somebody's")
    with pytest.raises(RestoreError, match="cannot write a WAL file"):
        bring_all(archive, JOBS[:1], str(tmp_path))
    assert (tmp_path / NAMES[0].text).read_bytes() == b"somebody's"
    archive.delete(NAMES[1])
    with pytest.raises(WalMissing):
        bring_all(archive, JOBS[1:2], str(tmp_path))


def test_another_ones_name_is_found_out_before_a_byte_is_written(archive: WalArchive, tmp_path: Path) -> None:
    sealed = archive.sealed(NAMES[2])
    archive._store.put(archive.key_of(NAMES[3]), sealed)
    with pytest.raises(CorruptObject, match=NAMES[3].text):
        bring_all(archive, [JOBS[3]], str(tmp_path))
    assert not (tmp_path / NAMES[3].text).exists() or not (tmp_path / NAMES[3].text).stat().st_size
    with pytest.raises(CorruptObject):
        archive.read(NAMES[3])


@pytest.mark.parametrize(("size", "cut"), [(SIZE + 1, 0), (SIZE - 1, 0), (SIZE, 1000)])
def test_content_of_another_length_is_damage(archive: WalArchive, tmp_path: Path, size: int, cut: int) -> None:
    """An object that was sealed with our key, but says something else of itself than what it holds."""
    packed = zstandard.ZstdCompressor().compress(segment_bytes(1))
    head = msgspec.json.encode(WalHeader(system=SYSTEM, name=NAMES[0].text, size=size))
    plain = b"HFW1" + len(head).to_bytes(4, "big") + head + packed[: len(packed) - cut]
    archive._store.put(archive.key_of(NAMES[0]), archive._key.seal(plain))
    with pytest.raises(CorruptObject):
        bring_all(archive, JOBS[:1], str(tmp_path))
    with pytest.raises(CorruptObject):
        archive.read(NAMES[0])


def test_a_server_that_fetches_for_a_timeline_gets_nothing_of_another_branch(tmp_path: Path) -> None:
    repository = new_repository_on(MemoryStore())
    archive = WalArchive(repository.store, repository.key, SYSTEM)
    history = named("00000002.history")
    text = b"1\t0/380000\tbecause\n"
    archive.put(history, text, header_for(SYSTEM, history, text))
    for number in (2, 3, 4):
        name = named(f"{1:08X}{0:08X}{number:08X}")
        data = segment_bytes(number)
        archive.put(name, data, header_for(SYSTEM, name, data))

    def given(number: int, timeline: int | None) -> bool:
        try:
            name = f"{1:08X}{0:08X}{number:08X}"
            wal_restore.fetch(repository, SYSTEM, name, str(tmp_path / "target"), timeline=timeline)
        except WalMissing:
            return False
        return True

    assert [given(number, 2) for number in (2, 3, 4)] == [True, False, False], "the fork lies in the third"
    assert [given(number, 1) for number in (2, 3, 4)] == [True, True, True]
    assert given(4, None)
