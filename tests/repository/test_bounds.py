"""What a writer holds in memory has a bound: packs that wait for a slow store, jobs of a large file that are done."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.errors import StoreUnavailable
from holdfast.repository.check import Checker
from holdfast.repository.pack import BlobKind
from holdfast.repository.pending import Pieces
from holdfast.repository.reader import BlobReader
from holdfast.repository.repository import Repository, open_repository
from holdfast.repository.writer import BlobWriter
from holdfast.store.base import Bytes
from holdfast.store.directory import DirectoryStore
from tests.support.repositories import PASSWORD, new_repository

UPLOADS = 2


class _Stalled(DirectoryStore):
    """Packs are stored once they are let; what was handed over is kept as it was when it came."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.let, self.came, self.fails = threading.Event(), 0, False

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        if key.startswith("data/"):
            self.came += 1
            assert self.let.wait(20)
            if self.fails:
                raise StoreUnavailable("the store is gone")
        super().put(key, data, if_absent=if_absent)


@pytest.fixture
def stalled(tmp_path: Path) -> _Stalled:
    new_repository(tmp_path / "repository")
    return _Stalled(tmp_path / "repository")


@pytest.fixture
def repository(stalled: _Stalled) -> Repository:
    return open_repository(stalled, PASSWORD)


@pytest.fixture
def blobs(repository: Repository) -> Iterator[BlobWriter]:
    """Packs of a few blobs each."""
    made = BlobWriter(repository.store, repository.key, repository.index, level=0, uploads=UPLOADS, pack_size=10_000)
    with made as writer:
        yield writer


def _saved_by_many(blobs: BlobWriter, pool: ThreadPoolExecutor, pieces: list[bytes]) -> list[Future[object]]:
    return [pool.submit(blobs.save, BlobKind.TREE if n % 5 == 0 else BlobKind.DATA, p) for n, p in enumerate(pieces)]


def test_packs_wait_for_a_slow_store_in_a_bounded_number(
    stalled: _Stalled, repository: Repository, blobs: BlobWriter
) -> None:
    pieces = [os.urandom(1000 + 20 * number) for number in range(200)]
    with ThreadPoolExecutor(6) as pool:
        saving = _saved_by_many(blobs, pool, pieces)
        _still(lambda: blobs.added.blobs)
        assert stalled.came == UPLOADS
        # Packs of 10,000 bytes: those in the store's hands, and one for each kind.
        assert blobs.added.bytes <= (UPLOADS + len(BlobKind)) * 13_000
        stalled.let.set()
        ids = [job.result(20) for job in saving]
    blobs.finish()
    repository.refresh()
    reader = BlobReader(repository.store, repository.key, repository.index)
    for number, (found, piece) in enumerate(zip(ids, pieces, strict=True)):
        kind = BlobKind.TREE if number % 5 == 0 else BlobKind.DATA
        assert reader.load(kind, found) == piece  # type: ignore[arg-type]  # a future's result
    checker = Checker(repository)
    checker.load()
    assert not checker.run(read_share=1.0).problems


def test_who_waits_for_a_store_that_fails_is_let_go(stalled: _Stalled, blobs: BlobWriter) -> None:
    stalled.fails = True
    with ThreadPoolExecutor(6) as pool:
        saving = _saved_by_many(blobs, pool, [os.urandom(3000) for _ in range(200)])
        _still(lambda: blobs.added.blobs)
        stalled.let.set()
        for job in saving:
            job.result(20)
    with pytest.raises(StoreUnavailable):
        blobs.finish()


def _still(figure: object) -> None:
    """Wait until a figure does not change any more."""
    assert callable(figure)
    last, since = figure(), time.monotonic()
    while time.monotonic() < since + 0.5:
        time.sleep(0.02)
        if figure() != last:
            last, since = figure(), time.monotonic()


def test_jobs_that_are_done_are_let_go() -> None:
    pieces = Pieces()
    going: Future[list[str]] = Future()
    for number in range(1000):
        done: Future[list[str]] = Future()
        done.set_result([f"{number}"])
        pieces.add(done)
    pieces.add(going)
    assert len(pieces._jobs) == 1
    assert not pieces.done()
    going.set_result(["last"])
    assert pieces.done()
    assert pieces.blobs() == [*map(str, range(1000)), "last"]


def test_a_job_that_failed_is_told_by_the_next_one() -> None:
    pieces = Pieces()
    failed: Future[list[str]] = Future()
    failed.set_exception(StoreUnavailable("the store is gone"))
    with pytest.raises(StoreUnavailable):
        pieces.add(failed)
