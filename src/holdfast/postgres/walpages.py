"""WAL as it lies in segments: pages with headers, and in them records, some across pages and segments.

Rules upheld here:
- Records are looked for in what they lie in: pages without their headers, segment behind segment.
- A record is believed by its checksum. What is left of a recycled segment behind the written end is not looked at.

Source: PostgreSQL, src/include/access/xlog_internal.h (page headers), xlogrecord.h. The layout is the same from version
9.5 to 18.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google_crc32c import extend as crc32c

from holdfast.model.wal import Lsn

Content = tuple[int, bytes]
"""A segment: the address at which it begins, and its bytes."""

PAGE, SHORT, LONG = 8192, 24, 40
"""Bytes of a page, of its header, and of that of a segment's first page."""
RECORD = struct.Struct("<IIQBBHI")
"""A record's header: length, transaction, record before, info, manager, padding, checksum."""
_SUMMED = 20
_REST = struct.Struct("<I")
_REST_AT = 16
_CONTINUED = 0x0001
_CARRIED = 1 << 18
"""Bytes of a segment's end that are looked at again with the next one."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record begins, and the address behind its last byte."""

    begin: Lsn
    end: Lsn


class Pages:
    """What lies in the pages of a segment: `data` without headers, `whole` when all pages were written."""

    def __init__(self, begin: int, content: bytes) -> None:
        import numpy as np

        self.begin = begin
        count = len(content) // PAGE
        pages = np.frombuffer(content, dtype="u1", count=count * PAGE).reshape(count, PAGE)
        addresses = pages[:, 8:16].copy().view("<u8")[:, 0]
        right = addresses == begin + np.arange(count, dtype="<u8") * np.uint64(PAGE)
        right &= pages[:, 0:2].copy().view("<u2")[:, 0] != 0
        written = count if right.all() else int(np.argmin(right))
        self.whole = written == count
        first = pages[0, LONG:].tobytes() if written else b""
        self.data = first + pages[1:written, SHORT:].tobytes()
        flags = int.from_bytes(content[2:4], "little") if written else 0
        self.rest = _REST.unpack_from(content, _REST_AT)[0] if flags & _CONTINUED else 0

    def address(self, offset: int) -> int:
        """Where a byte of `data` lies."""
        if offset < PAGE - LONG:
            return self.begin + LONG + offset
        page, inside = divmod(offset - (PAGE - LONG), PAGE - SHORT)
        return self.begin + (page + 1) * PAGE + SHORT + inside


@dataclass(frozen=True, slots=True)
class Window:
    """The end of a segment and the whole next one, as one; `first` is where the first record begins."""

    data: bytes
    first: int
    before: Pages | None
    carried: int
    pages: Pages

    def record(self, begin: int, size: int) -> Record:
        """The record of this size that begins at an offset."""
        return Record(Lsn(self._address(begin)), Lsn(self._address(begin + size - 1) + 1))

    def _address(self, offset: int) -> int:
        if offset < self.carried and self.before is not None:
            return self.before.address(len(self.before.data) - self.carried + offset)
        return self.pages.address(offset - self.carried)


def windows(contents: Iterable[Content], *, keep_all: bool = False) -> Iterator[Window]:
    """Segments in order, each behind the end of the one before (or all of it), where that was written to its end."""
    before: Pages | None = None
    for begin, content in contents:
        pages = Pages(begin, content)
        carried = b""
        if before is not None and before.whole and pages.data:
            # A multiple of eight: records begin on one.
            start = 0 if keep_all else max(0, (len(before.data) - _CARRIED) // 8 * 8)
            carried = before.data[start:]
        else:
            before = None
        first = -(-(before or pages).rest // 8) * 8
        yield Window(carried + pages.data, first, before, len(carried), pages)
        before = pages


def size_at(data: bytes, begin: int) -> int | None:
    """The length of the record that begins here; None when it is not whole, or none."""
    if begin + RECORD.size > len(data):
        return None
    size = int(_REST.unpack_from(data, begin)[0])
    return size if RECORD.size <= size <= len(data) - begin else None


def is_right(data: bytes, begin: int, size: int) -> bool:
    """Whether the checksum of what looks like a record is right."""
    found = crc32c(crc32c(0, data[begin + RECORD.size : begin + size]), data[begin : begin + _SUMMED])
    return bool(found == RECORD.unpack_from(data, begin)[6])
