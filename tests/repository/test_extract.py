"""Reading many blobs at once: small ranges among large ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.ids import BlobId
from holdfast.repository.extract import _MANY, Piece, mixed
from holdfast.repository.index import Location


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
