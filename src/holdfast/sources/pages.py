"""Checking the checksums of PostgreSQL's pages, many at once.

Rules upheld here:
- The checksum covers the page with its own field as zero, mixed with the block's number in the relation: a page that
  was written to another place does not match either.
- A page of zeros is a new one and right. A page that is being written while it is read may look wrong: the caller reads
  it again, and believes what was changed after the backup began to the WAL.

Source: PostgreSQL, src/include/storage/checksum_impl.h, bufpage.h (PageHeaderData).
"""

from __future__ import annotations

from typing import Any

PAGE = 8192
_WORDS, _SUMS = PAGE // 4, 32
_PRIME = 16777619
_BASE = (
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
)  # fmt: skip


def bad_pages(data: bytes | memoryview, first_block: int) -> list[tuple[int, int]]:
    """The blocks whose checksum is wrong, each with the LSN that stands in its header.

    `data` begins at block `first_block` of the relation (over all of its files); what is no whole page at its end is
    not looked at.
    """
    import numpy as np

    count = len(data) // PAGE
    if not count:
        return []
    words = np.frombuffer(data, dtype="<u4", count=count * _WORDS).reshape(count, _WORDS)
    stored = words[:, 2] & 0xFFFF
    numbers = (first_block + np.arange(count, dtype="<u4")).astype("<u4")
    computed = _checksums(words, numbers, np)
    wrong = np.nonzero((stored != computed) & words.any(axis=1))[0]
    return [(first_block + int(at), (int(words[at, 0]) << 32) | int(words[at, 1])) for at in wrong]


def _checksums(words: Any, numbers: Any, np: Any) -> Any:
    sums = np.tile(np.array(_BASE, dtype="<u4"), (len(words), 1))
    rows = words.reshape(len(words), _WORDS // _SUMS, _SUMS)
    for number in range(_WORDS // _SUMS):
        row = rows[:, number, :]
        if number == 0:  # the checksum itself lies in the third word, in its lower half
            row = row.copy()
            row[:, 2] &= np.uint32(0xFFFF0000)
        sums = _mix(sums, row, np)
    for _ in range(2):
        sums = _mix(sums, np.uint32(0), np)
    mixed = np.bitwise_xor.reduce(sums, axis=1) ^ numbers
    return mixed % np.uint32(65535) + np.uint32(1)


def _mix(sums: Any, row: Any, np: Any) -> Any:
    mixed = sums ^ row
    return (mixed * np.uint32(_PRIME)) ^ (mixed >> np.uint32(17))
