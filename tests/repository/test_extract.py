"""Reading many blobs at once: everything once, small ranges among large ones, no more threads at work than cores."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import BlobId
from holdfast.repository.cores import cores, workers_for
from holdfast.repository.extract import _MANY, Delivered, Piece, mixed, read_blobs
from holdfast.repository.index import Location
from holdfast.repository.pack import BlobKind
from tests.support.repositories import new_repository


def _group(number: int, size: int) -> list[Piece]:
    return [Piece(BlobId(bytes(32)), Location(str(number), at, 1, 0)) for at in range(size)]


@given(st.lists(st.sampled_from([1, _MANY - 1, _MANY, 500]), max_size=60))
def test_small_ranges_are_spread_evenly(sizes: list[int]) -> None:
    groups = [_group(number, size) for number, size in enumerate(sizes)]
    found = mixed(groups)
    assert sorted(group[0].where.pack for group in found) == sorted(group[0].where.pack for group in groups)
    small = [len(group) >= _MANY for group in found]
    for half in (small[: len(small) // 2], small[len(small) // 2 :]):
        assert abs(sum(half) - sum(small) / 2) <= 1
    # Neighbours of one sort keep their order: files are finished about in the order in which they are listed.
    for sort in (True, False):
        order = [int(group[0].where.pack) for group in found if (len(group) >= _MANY) is sort]
        assert order == sorted(order)


def test_no_more_threads_work_than_there_are_cores(tmp_path: Path) -> None:
    repository = new_repository(tmp_path)
    repository.connections = 8
    with repository.lock(), repository.writer(level=0) as writer:
        writer._pack_size = 1  # every blob in a pack of its own
        ids = {writer.save(BlobKind.DATA, os.urandom(10)) for _ in range(60)}
        writer.finish()
    repository.refresh()
    came: set[BlobId] = set()
    lock, at_work, most = threading.Lock(), 0, 0

    def deliver(found: Delivered) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            came.update(blob for blob, _ in found)
        time.sleep(0.005)
        with lock:
            at_work -= 1

    read_blobs(repository, ids, deliver, lambda blob, error: None)
    assert came == ids
    assert 1 < most <= workers_for(cores())
