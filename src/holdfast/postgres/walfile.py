"""Looking into WAL files: whose they are, and when the commits in them were made.

Rules upheld here:
- A segment is believed by what stands in it, not by its name alone: system identifier, address and size must fit.
- Times of commits are found by the shape of their records, in whole segments at once; a record that lies across pages
  is not seen. The last time is thus never too late: there is a commit of that time, or a later one.

Source: PostgreSQL, src/include/access/xlog_internal.h (XLogLongPageHeaderData), xlogrecord.h (XLogRecord), xact.h
(xl_xact_commit). The layout is the same from version 9.5 to 18.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from holdfast.errors import WalConflict
from holdfast.model.wal import WalKind, WalName, is_segment_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Bytes = bytes | bytearray | memoryview

_LONG_HEADER = struct.Struct("<HHIQIIQII")  # magic, info, timeline, address, rest, padding, system, segment, block
_LONG = 0x0002
_PAGE = 8192
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_RECORD = 24
_XACT = 1
_FINISHED = (0x00, 0x20, 0x30, 0x40)  # commit, abort, commit prepared, abort prepared
_OPERATION = 0x70
_SHORT = 0xFF
_WORDS = 5
"""Of eight bytes each: as many as are looked at from the beginning of a record."""
_WINDOW = 1 << 15
_FAR = 1 << 20
"""How far back the record before may lie. Less than any segment: what is left of a recycled one points further back."""


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """What a segment says of itself: its cluster, timeline, first address, and the size of segments."""

    system: str
    timeline: int
    begin: int
    segment_size: int


def segment_head(data: Bytes) -> SegmentHead | None:
    """The first page's header; None for what is no WAL (a segment that was only allocated is all zeros)."""
    if len(data) < _LONG_HEADER.size:
        return None
    magic, info, timeline, begin, _, _, system, size, _ = _LONG_HEADER.unpack_from(data)
    if not magic or not info & _LONG or not is_segment_size(size):
        return None
    return SegmentHead(str(system), timeline, begin, size)


def check_segment(name: WalName, data: Bytes, system: str) -> SegmentHead:
    """Refuse a segment that is not what its name says, or of another cluster. Raises: WalConflict."""
    head = segment_head(data)
    if head is None:
        raise WalConflict("this is no WAL segment", which=name.text, found=f"{len(data)} bytes, {data[:8].hex()}")
    if head.system != system:
        raise WalConflict(
            "this WAL is of another cluster",
            which=name.text,
            wanted=f"system identifier {system}",
            found=head.system,
            hint="give each server a spool of its own; a cluster that was made anew needs a new one",
        )
    segment = name.segment(head.segment_size)
    if head.begin != segment.begin or head.timeline > name.timeline:
        raise WalConflict(
            "a WAL segment has the wrong name",
            which=name.text,
            wanted=f"one that begins at {segment.begin} on timeline {name.timeline}",
            found=f"{head.begin >> 32:X}/{head.begin & 0xFFFFFFFF:X} on timeline {head.timeline}",
        )
    if name.kind is WalKind.SEGMENT and len(data) != head.segment_size:
        raise WalConflict(
            "a WAL segment is not whole", which=name.text, wanted=f"{head.segment_size} bytes", found=str(len(data))
        )
    return head


def commit_times(data: Bytes, begin: int) -> tuple[datetime, datetime] | None:
    """The times of the first and the last finished transaction in a segment that begins at this address.

    Looked for from both ends: in a segment of a busy server they are near.
    """
    import numpy as np

    count = len(data) // _PAGE * _PAGE // 8
    if count < _WORDS:
        return None
    words = np.frombuffer(data, dtype="<u8", count=count)
    places = count - _WORDS + 1  # where a record can begin
    first = next((times[0] for low, high in _windows(places) if len(times := _times(words, begin, low, high))), None)
    if first is None:
        return None
    backwards = ((places - high, places - low) for low, high in _windows(places))
    last = next(times[-1] for low, high in backwards if len(times := _times(words, begin, low, high)))
    return _moment(int(first)), _moment(int(last))


def _windows(places: int) -> Iterator[tuple[int, int]]:
    """All places in windows that grow."""
    low, size = 0, _WINDOW
    while low < places:
        yield low, min(places, low + size)
        low, size = low + size, size * 4


def _times(words: NDArray[np.uint64], begin: int, low: int, high: int) -> NDArray[np.uint64]:
    """The times of finished transactions whose records begin at one of these words, in order."""
    import numpy as np

    # Records lie on multiples of 8. Its third word is: info, resource manager, padding, checksum.
    managers = words[low + 2 : high + 2].view("u1")[1::8]
    places = np.nonzero(managers == _XACT)[0] + low
    own = places.astype(np.uint64) * np.uint64(8) + np.uint64(begin)
    before = words[places + 1]
    operation = words[places + 2] & np.uint64(_OPERATION)
    length = words[places] & np.uint64(0xFFFFFFFF)
    main = words[places + 3]  # the first bytes of the data: its kind and length, then the time
    good = np.isin(operation, np.array(_FINISHED, dtype="<u8"))
    good &= (words[places + 2] & np.uint64(0xFFFF0000)) == 0  # padding
    good &= (before < own) & (own - before < np.uint64(_FAR)) & (before % np.uint64(8) == 0)
    good &= (length >= np.uint64(_RECORD + 10)) & (length < np.uint64(1 << 20))
    good &= (main & np.uint64(0xFF)) == np.uint64(_SHORT)
    good &= (places * 8) % _PAGE <= _PAGE - _RECORD - 10
    found = places[good]
    times: NDArray[np.uint64] = (words[found + 3] >> np.uint64(16)) | (words[found + 4] << np.uint64(48))
    return times


def _moment(microseconds: int) -> datetime:
    """PostgreSQL's TimestampTz: microseconds since 2000."""
    return _EPOCH + timedelta(microseconds=microseconds)
