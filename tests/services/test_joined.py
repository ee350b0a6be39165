"""Parts of a restored file that touch are written together, and nothing else is."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.services.placing import joined, write_at
from holdfast.store.base import Bytes

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
    written = [(offset, b"".join(run)) for offset, run in found]
    assert {offset + number: byte for offset, data in written for number, byte in enumerate(data)} == expected
    assert sum(bool(data) for _, data in written) == runs


def test_more_pieces_than_one_call_takes_are_written(tmp_path: Path) -> None:
    pieces = [bytes([number % 256]) * (number % 7) for number in range(5000)]
    assert _written(tmp_path, pieces, 3) == bytes(3) + b"".join(pieces)


@pytest.mark.parametrize("most", [1, 10, 4096])
def test_a_write_that_takes_only_a_part_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    def short(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        return os.pwrite(fd, b"".join(buffers)[:most], offset)

    monkeypatch.setattr(os, "pwritev", short)
    pieces: list[Bytes] = [b"one", b"", b"two" * 3000, memoryview(b"three"), b"4"]
    assert _written(tmp_path, pieces, 0) == b"".join(pieces)


def _written(folder: Path, pieces: Sequence[Bytes], offset: int) -> bytes:
    path = folder / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    write_at(fd, pieces, offset)
    os.close(fd)
    return path.read_bytes()
