"""Parts of a restored file that touch are written together, and nothing else is."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from holdfast.services.extraction_contents import _RUN, joined

HOLE = 7


@given(st.lists(st.none() | st.binary(min_size=1, max_size=5), max_size=30), st.randoms(use_true_random=False))
def test_the_same_bytes_at_the_same_places_in_as_few_runs_as_possible(
    pieces: list[bytes | None], chance: random.Random
) -> None:
    parts, at, runs, inside = [], 0, 0, False
    expected: dict[int, int] = {}
    for data in pieces:
        parts.append((at, data or b""))
        expected |= {at + number: byte for number, byte in enumerate(data or b"")}
        runs += data is not None and not inside
        inside = data is not None
        at += len(data) if data else HOLE
    chance.shuffle(parts)
    found = list(joined(parts))
    assert {offset + number: byte for offset, data in found for number, byte in enumerate(data)} == expected
    assert sum(bool(data) for _, data in found) == runs


def test_a_blob_that_comes_a_thousand_times_is_not_held_a_thousand_times() -> None:
    piece = bytes(range(256)) * 4096
    at = 0
    for offset, data in joined([(number * len(piece), piece) for number in reversed(range(1000))]):
        assert offset == at
        assert len(data) <= _RUN
        at += len(data)
    assert at == 1000 * len(piece)
