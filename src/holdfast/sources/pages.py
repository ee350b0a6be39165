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
    wrong = [at for at in np.nonzero(stored != computed)[0] if words[at].any()]
    return [(first_block + int(at), (int(words[at, 0]) << 32) | int(words[at, 1])) for at in wrong]


def _checksums(words: Any, numbers: Any, np: Any) -> Any:
    # In the order in which they are mixed: the pages' first 32 words together, then their next. Copied in pieces of
    # eight bytes, and the constants as arrays: by perf, the layout cost more than the arithmetic.
    halves = words.view("<u8").reshape(len(words), _WORDS // _SUMS, _SUMS // 2)
    rows = np.array(halves.transpose(1, 0, 2), order="C", copy=True).view("<u4")
    rows[0, :, 2] &= np.uint32(0xFFFF0000)  # the checksum itself lies in the third word, in its lower half
    prime, shift = np.array(_PRIME, dtype="<u4"), np.array(17, dtype="<u4")
    sums = np.tile(np.array(_BASE, dtype="<u4"), (len(words), 1))
    mixed = np.empty_like(sums)
    for row in (*rows, *np.zeros((2, 1, 1), dtype="<u4")):
        np.bitwise_xor(sums, row, out=mixed)
        np.multiply(mixed, prime, out=sums)
        np.right_shift(mixed, shift, out=mixed)
        np.bitwise_xor(sums, mixed, out=sums)
    folded = np.bitwise_xor.reduce(sums, axis=1) ^ numbers
    return folded % np.uint32(65535) + np.uint32(1)
