"""Finding records in WAL: where a transaction ended, where a restore point was set, where the last record begins.

Rules upheld here:
- Records are looked for in what they lie in: pages without their headers, segment behind segment, so that one that
  lies across pages or segments is seen, too.
- A record is believed by its checksum. What is left of a recycled segment behind the written end is not looked at.
- As PostgreSQL stops: at the first end of the transaction, committed or not, prepared or not; at the first restore
  point of a name.

Source: PostgreSQL, src/include/access/xlog_internal.h (page headers), xlogrecord.h, xact.h, xlogrecovery.c
(recoveryStopsAfter). The layout is the same from version 9.5 to 18.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from google_crc32c import extend as crc32c

from holdfast.model.wal import Lsn

Content = tuple[int, bytes]
"""A segment: the address at which it begins, and its bytes."""

_PAGE, _SHORT, _LONG = 8192, 24, 40
_RECORD = struct.Struct("<IIQBBHI")  # length, transaction, record before, info, manager, padding, checksum
_SUMMED = 20
_REST = struct.Struct("<I")
_REST_AT = 16
_CONTINUED = 0x0001
_XLOG, _XACT = 0, 1
_RESTORE_POINT = 0x70
_ENDS = (0x00, 0x20)
_ENDS_PREPARED = (0x30, 0x40)
_OPERATION = 0x70
_NAME_AT = _RECORD.size + 2 + 8  # two bytes of the data's own header, eight of a time
_CARRIED = 1 << 18
"""Bytes of a segment's end that are looked at again with the next one."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record begins, and the address behind its last byte."""

    begin: Lsn
    end: Lsn


def transaction_end(contents: Iterable[Content], xid: int, *, since: int = 0) -> Record | None:
    """The first end of a transaction at or behind an address; of a 64-bit number the lower half is what WAL knows."""
    wanted = xid & 0xFFFFFFFF
    return _first(contents, lambda data: _transactions(data, wanted), since)


def restore_point(contents: Iterable[Content], name: str, *, since: int = 0) -> Record | None:
    """The first restore point of this name at or behind an address."""
    wanted = name.encode() + b"\0"
    return _first(contents, lambda data: _names(data, wanted), since)


def last_record(contents: Iterable[Content]) -> Record | None:
    """The last record that is whole."""
    found: Record | None = None
    for window in _windows(contents, keep_all=True):
        found = _walk(window, window.first) or found
    return found


def _walk(window: _Window, begin: int) -> Record | None:
    """The last whole record, from one to the next."""
    found: Record | None = None
    own = window.carried + -(-window.pages.rest // 8) * 8
    while True:
        size = _size(window.data, begin)
        if size is not None and _is_right(window.data, begin, size):
            found = window.record(begin, size)
            begin += -(-size // 8) * 8
        elif begin < own:  # the segment before was left early: the next one begins anew
            begin = own
        else:
            return found


class _Pages:
    """What lies in the pages of a segment: `data` without headers, `whole` when all pages were written."""

    def __init__(self, begin: int, content: bytes) -> None:
        import numpy as np

        self.begin = begin
        count = len(content) // _PAGE
        pages = np.frombuffer(content, dtype="u1", count=count * _PAGE).reshape(count, _PAGE)
        addresses = pages[:, 8:16].copy().view("<u8")[:, 0]
        right = addresses == begin + np.arange(count, dtype="<u8") * np.uint64(_PAGE)
        right &= pages[:, 0:2].copy().view("<u2")[:, 0] != 0
        written = count if right.all() else int(np.argmin(right))
        self.whole = written == count
        first = pages[0, _LONG:].tobytes() if written else b""
        self.data = first + pages[1:written, _SHORT:].tobytes()
        flags = int.from_bytes(content[2:4], "little") if written else 0
        self.rest = _REST.unpack_from(content, _REST_AT)[0] if flags & _CONTINUED else 0

    def address(self, offset: int) -> int:
        """Where a byte of `data` lies."""
        if offset < _PAGE - _LONG:
            return self.begin + _LONG + offset
        page, inside = divmod(offset - (_PAGE - _LONG), _PAGE - _SHORT)
        return self.begin + (page + 1) * _PAGE + _SHORT + inside


@dataclass(frozen=True, slots=True)
class _Window:
    """The end of a segment and the whole next one, as one; `first` is where the first record begins."""

    data: bytes
    first: int
    before: _Pages | None
    carried: int
    pages: _Pages

    def record(self, begin: int, size: int) -> Record:
        return Record(Lsn(self._address(begin)), Lsn(self._address(begin + size - 1) + 1))

    def _address(self, offset: int) -> int:
        if offset < self.carried and self.before is not None:
            return self.before.address(len(self.before.data) - self.carried + offset)
        return self.pages.address(offset - self.carried)


def _windows(contents: Iterable[Content], *, keep_all: bool = False) -> Iterator[_Window]:
    before: _Pages | None = None
    for begin, content in contents:
        pages = _Pages(begin, content)
        carried = b""
        if before is not None and before.whole and pages.data:
            # A multiple of eight: records begin on one.
            start = 0 if keep_all else max(0, (len(before.data) - _CARRIED) // 8 * 8)
            carried = before.data[start:]
        else:
            before = None
        first = -(-(before or pages).rest // 8) * 8
        yield _Window(carried + pages.data, first, before, len(carried), pages)
        before = pages


def _first(contents: Iterable[Content], places: Callable[[bytes], Iterator[int]], since: int) -> Record | None:
    for window in _windows(contents):
        for begin in places(window.data):
            size = _size(window.data, begin)
            if size is not None and _is_right(window.data, begin, size):
                found = window.record(begin, size)
                if found.begin >= since:
                    return found
    return None


def _transactions(data: bytes, xid: int) -> Iterator[int]:
    """Where the end of a transaction may begin, in order."""
    import numpy as np

    words = np.frombuffer(data, dtype="<u8", count=len(data) // 8)
    if len(words) < _RECORD.size // 8:
        return
    kinds = words[2:]
    ends = ((kinds >> np.uint64(8)) & np.uint64(0xFF)) == np.uint64(_XACT)
    for place in np.nonzero(ends & ((kinds & np.uint64(0xFFFF0000)) == 0))[0]:
        begin = int(place) * 8
        _, own, _, info, _, _, _ = _RECORD.unpack_from(data, begin)
        if (info & _OPERATION in _ENDS and own == xid) or (
            info & _OPERATION in _ENDS_PREPARED and _stands_in(data, begin, xid)
        ):
            yield begin


def _stands_in(data: bytes, begin: int, xid: int) -> bool:
    """Whether a number stands in a record's data: whoever ends a prepared transaction has a number of its own."""
    size = _size(data, begin)
    return size is not None and xid.to_bytes(4, "little") in data[begin + _RECORD.size : begin + size]


def _names(data: bytes, name: bytes) -> Iterator[int]:
    at = data.find(name)
    while at >= 0:
        begin = at - _NAME_AT
        if begin >= 0 and begin % 8 == 0:
            _, _, _, info, manager, _, _ = _RECORD.unpack_from(data, begin)
            if (manager, info & 0xF0) == (_XLOG, _RESTORE_POINT):
                yield begin
        at = data.find(name, at + 1)


def _size(data: bytes, begin: int) -> int | None:
    """The length of the record that begins here; None when it is not whole, or none."""
    if begin + _RECORD.size > len(data):
        return None
    size = int(_REST.unpack_from(data, begin)[0])
    return size if _RECORD.size <= size <= len(data) - begin else None


def _is_right(data: bytes, begin: int, size: int) -> bool:
    found = crc32c(crc32c(0, data[begin + _RECORD.size : begin + size]), data[begin : begin + _SUMMED])
    return bool(found == _RECORD.unpack_from(data, begin)[6])
