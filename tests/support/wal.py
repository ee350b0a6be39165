"""WAL segments for tests: a real header, a body that is this segment's own, and commit records where asked for."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime

from holdfast.model.wal import WalName, WalSegment, parse_wal_name

SIZE = 1 << 20
"""The smallest segment that a cluster can have."""

SYSTEM = "7300000000000000001"


def named(text: str) -> WalName:
    """The name, which must be a WAL file's."""
    found = parse_wal_name(text)
    assert found is not None, text
    return found


def segment_bytes(
    number: int,
    *,
    timeline: int = 1,
    system: str = SYSTEM,
    commits: tuple[datetime, ...] = (),
    filled: int = SIZE,
    seed: int = 0,
) -> bytes:
    """A segment whose first `filled` bytes were written."""
    segment = WalSegment(timeline, number, SIZE)
    head = struct.pack("<HHIQIIQII", 0xD110, 0x0006, timeline, segment.begin, 0, 0, int(system), SIZE, 8192)
    data = bytearray(head + random.Random(f"{number}-{timeline}-{seed}").randbytes(filled - len(head)))
    data += bytes(SIZE - len(data))
    before, at = segment.begin + 40, 4096
    for commit in commits:
        micro = int((commit - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
        record = struct.pack("<IIQBBHI", 34, 700, before, 0, 1, 0, 0xDEADBEEF) + b"\xff\x08" + struct.pack("<q", micro)
        data[at : at + len(record)] = record
        before, at = segment.begin + at, at + 8192
    return bytes(data)
