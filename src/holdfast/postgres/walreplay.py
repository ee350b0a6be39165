"""What WAL does when it is replayed, beyond pages: it makes tablespaces, and asks for settings.

Source: PostgreSQL, src/include/commands/tablespace.h, access/xlog_internal.h (xl_parameter_change); the same from
version 12 to 18.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from holdfast.model.wal import Lsn
from holdfast.postgres.walpages import LONG, PAGE, RECORD, SHORT, Content, Record, is_right, size_at, windows

_SHORT_DATA = 0xFF
_TABLESPACE_MADE = 0x0500
_SETTINGS_CHANGED = 0x0060
"""The third word of a record of CREATE TABLESPACE, and of PARAMETER_CHANGE: info, manager, padding."""
_SETTINGS = struct.Struct("<6i")
_SETTINGS_SIZE = RECORD.size + 2 + _SETTINGS.size + 4  # and two flags, padded
_SETTINGS_NAMES = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)


@dataclass(frozen=True, slots=True)
class TablespaceMade:
    """A CREATE TABLESPACE: whoever replays it links to that very place, and writes there.

    `before` is where the record before it begins: PostgreSQL stops behind the first record at or behind a target.
    """

    record: Record
    before: Lsn
    oid: int
    location: str


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """A server that was started with other settings. `minimal`: what it wrote from there on recovers nothing."""

    record: Record
    before: Lsn
    values: dict[str, int]
    minimal: bool


def may_matter(piece: bytes | memoryview) -> bool:
    """Whether a piece of a segment may hold what the two functions below look for: in no time.

    It begins with a page. A record whose beginning lies across two pages is known by less.
    """
    import numpy as np

    lanes = np.frombuffer(piece, dtype="<u4", count=len(piece) // PAGE * PAGE // 4)[::2]
    if not len(lanes):
        return True
    kinds = lanes[2:]
    changed = (kinds == _SETTINGS_CHANGED) & (lanes[:-2] == _SETTINGS_SIZE)
    across = lanes.reshape(-1, PAGE // 8)[:, SHORT // 8 : LONG // 8 + 2] == _SETTINGS_CHANGED
    return bool(((kinds == _TABLESPACE_MADE) | changed).any() or across.any())


def tablespaces_made(contents: Iterable[Content]) -> list[TablespaceMade]:
    """The tablespaces that are made in these segments, each once; those inside the data directory do not count."""
    found: dict[int, TablespaceMade] = {}
    for window in windows(contents):
        for begin in _records_of(window.data, _TABLESPACE_MADE):
            size = size_at(window.data, begin)
            if size is not None and is_right(window.data, begin, size):
                oid, location = _tablespace(window.data[begin + RECORD.size : begin + size])
                record = window.record(begin, size)
                if location:
                    before = Lsn(RECORD.unpack_from(window.data, begin)[2])
                    found[record.begin] = TablespaceMade(record, before, oid, location)
    return list(found.values())


def settings_changed(contents: Iterable[Content]) -> list[SettingsChanged]:
    """The changes of the settings that a standby must not have lower, and of wal_level, in these segments."""
    found: dict[int, SettingsChanged] = {}
    for window in windows(contents):
        for begin in _records_of(window.data, _SETTINGS_CHANGED, _SETTINGS_SIZE):
            if is_right(window.data, begin, _SETTINGS_SIZE):
                record = window.record(begin, _SETTINGS_SIZE)
                *values, level = _SETTINGS.unpack_from(window.data, begin + RECORD.size + 2)
                before = Lsn(RECORD.unpack_from(window.data, begin)[2])
                named = dict(zip(_SETTINGS_NAMES, values, strict=True))
                found[record.begin] = SettingsChanged(record, before, named, level == 0)
    return list(found.values())


def _records_of(data: bytes, kind: int, size: int | None = None) -> Iterator[int]:
    """Where a record of a kind, and of a size, may begin."""
    import numpy as np

    lanes = np.frombuffer(data, dtype="<u4", count=len(data) // 8 * 2)[::2]
    right = lanes[2:] == kind
    if size is not None:
        right &= lanes[:-2] == size
    for place in np.nonzero(right)[0]:
        if size_at(data, int(place) * 8) is not None:
            yield int(place) * 8


def _tablespace(body: bytes) -> tuple[int, str]:
    """Number and place, from a record without blocks: the header of its data (short or long), then they."""
    begin = 2 if body[0] == _SHORT_DATA else 5
    place = body[begin + 4 :].partition(b"\0")[0]
    return int.from_bytes(body[begin : begin + 4], "little"), place.decode(errors="surrogateescape")
