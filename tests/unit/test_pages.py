"""Page checksums: those that PostgreSQL wrote are right, any flipped bit is found. (Real pages are in tests/system.)"""

from __future__ import annotations

import random
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.sources.pages import _BASE, PAGE, bad_pages

_PRIME = 16777619


def reference(page: bytes, block: int) -> int:
    """The same sum, word by word, as checksum_impl.h says it."""
    sums = list(_BASE)
    words = list(struct.unpack("<2048I", page))
    words[2] &= 0xFFFF0000
    for at, word in enumerate([*words, *([0] * 64)]):
        mixed = sums[at % 32] ^ word
        sums[at % 32] = ((mixed * _PRIME) & 0xFFFFFFFF) ^ (mixed >> 17)
    result = 0
    for value in sums:
        result ^= value
    return ((result ^ block) % 65535) + 1


def sealed(page: bytes, block: int) -> bytes:
    return page[:8] + struct.pack("<H", reference(page, block)) + page[10:]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1 << 30), min_size=1, max_size=5), st.integers(0, 1 << 31), st.data())
def test_what_is_whole_is_accepted_and_what_is_not_is_named(seeds: list[int], first: int, data: st.DataObject) -> None:
    pages = [sealed(random.Random(seed).randbytes(PAGE), first + at) for at, seed in enumerate(seeds)]
    assert bad_pages(b"".join(pages), first) == []
    at = data.draw(st.integers(0, len(pages) * PAGE - 1))
    broken = bytearray(b"".join(pages))
    broken[at] ^= 1 << data.draw(st.integers(0, 7))
    found = bad_pages(bytes(broken), first)
    assert [block for block, _ in found] == [first + at // PAGE]


def test_a_page_in_another_place_is_wrong_and_a_page_of_zeros_is_new() -> None:
    page = sealed(bytes(range(256)) * 32, 7)
    assert bad_pages(page, 7) == []
    assert [block for block, _ in bad_pages(page, 8)] == [8]
    assert bad_pages(bytes(PAGE) + page + b"half a page", 6) == []
    lsn = struct.unpack("<II", page[:8])
    assert bad_pages(page, 8)[0][1] == lsn[0] << 32 | lsn[1]
