"""WAL addresses and the names of WAL files, as PostgreSQL writes them.

Rules upheld here:
- A name is taken apart completely or refused: what is no WAL file is never taken for one.
- A segment's size is a property of its cluster (`initdb --wal-segsize`): nothing assumes 16 MiB.

Source: PostgreSQL, src/include/access/xlog_internal.h (XLogFileName, BackupHistoryFileName), xlogdefs.h.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_SEGMENT_SIZE = 16 << 20
_SPACE = 1 << 32
_NAME = re.compile(
    r"(?P<timeline>[0-9A-F]{8})(?:(?P<history>\.history)|"
    r"(?P<high>[0-9A-F]{8})(?P<low>[0-9A-F]{8})(?:(?P<partial>\.partial)|\.(?P<offset>[0-9A-F]{8})\.backup)?)"
)


class Lsn(int):
    """An address in the WAL: bytes since the cluster's beginning. Written as `16/B374D848`."""

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Raises: ValueError."""
        high, slash, low = text.strip().partition("/")
        if not slash or not re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", text.strip()):
            raise ValueError(f"not an LSN: {text!r}")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"


def is_segment_size(size: int) -> bool:
    """Whether a cluster can have segments of this size: a power of two from 1 MiB to 1 GiB."""
    return 1 << 20 <= size <= 1 << 30 and size & (size - 1) == 0


@dataclass(frozen=True, slots=True, order=True)
class WalSegment:
    """One segment of one timeline: `number` counts segments of `size` bytes from LSN 0."""

    timeline: int
    number: int
    size: int = DEFAULT_SEGMENT_SIZE

    @classmethod
    def holding(cls, timeline: int, lsn: int, size: int = DEFAULT_SEGMENT_SIZE) -> WalSegment:
        """The segment in which the byte at `lsn` lies."""
        return cls(timeline, lsn // size, size)

    @property
    def name(self) -> str:
        """24 hex digits."""
        high, low = divmod(self.number, _SPACE // self.size)
        return f"{self.timeline:08X}{high:08X}{low:08X}"

    @property
    def begin(self) -> Lsn:
        """The first byte's address."""
        return Lsn(self.number * self.size)

    @property
    def end(self) -> Lsn:
        """The address after the last byte."""
        return Lsn((self.number + 1) * self.size)


class WalKind(StrEnum):
    """What a file of the WAL folder is."""

    SEGMENT = "segment"
    PARTIAL = "partial"
    HISTORY = "history"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True)
class WalName:
    """A WAL file's name, taken apart. `high` and `low` are the middle and last eight digits of a segment's name."""

    text: str
    kind: WalKind
    timeline: int
    high: int = 0
    low: int = 0

    def segment(self, size: int) -> WalSegment:
        """The segment that it names. Raises: ValueError for a history file, or a name that this size cannot have."""
        if self.kind is WalKind.HISTORY:
            raise ValueError(f"a history file is no segment: {self.text}")
        if self.low >= _SPACE // size:
            raise ValueError(f"no segment of {size} bytes has this name: {self.text}")
        return WalSegment(self.timeline, self.high * (_SPACE // size) + self.low, size)


def parse_wal_name(text: str) -> WalName | None:
    """The parts of a WAL file's name; None for anything else."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    timeline = int(found["timeline"], 16)
    if found["history"]:
        return WalName(text, WalKind.HISTORY, timeline)
    kind = WalKind.PARTIAL if found["partial"] else WalKind.BACKUP if found["offset"] else WalKind.SEGMENT
    return WalName(text, kind, timeline, int(found["high"], 16), int(found["low"], 16))


def history_name(timeline: int) -> str:
    """The name of a timeline's history file."""
    return f"{timeline:08X}.history"
