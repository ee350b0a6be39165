"""Finding records in WAL: where a transaction ended, where a restore point was set, where the last record begins.

Rules upheld here:
- As PostgreSQL stops: at the first end of the transaction, committed or not, prepared or not; at the first restore
  point of a name.

Source: PostgreSQL, src/include/access/xact.h, xlog_internal.h (xl_restore_point), xlogrecovery.c (recoveryStopsAfter).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from holdfast.postgres.walpages import RECORD, Content, Record, Window, is_right, size_at, windows

_XLOG, _XACT = 0, 1
_RESTORE_POINT = 0x70
_ENDS = (0x00, 0x20)
_ENDS_PREPARED = (0x30, 0x40)
_OPERATION = 0x70
_NAME_AT = RECORD.size + 2 + 8  # two bytes of the data's own header, eight of a time


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
    for window in windows(contents, keep_all=True):
        found = _walk(window, window.first) or found
    return found


def _walk(window: Window, begin: int) -> Record | None:
    """The last whole record, from one to the next."""
    found: Record | None = None
    own = window.carried + -(-window.pages.rest // 8) * 8
    while True:
        size = size_at(window.data, begin)
        if size is not None and is_right(window.data, begin, size):
            found = window.record(begin, size)
            begin += -(-size // 8) * 8
        elif begin < own:  # the segment before was left early: the next one begins anew
            begin = own
        else:
            return found


def _first(contents: Iterable[Content], places: Callable[[bytes], Iterator[int]], since: int) -> Record | None:
    for window in windows(contents):
        for begin in places(window.data):
            size = size_at(window.data, begin)
            if size is not None and is_right(window.data, begin, size):
                found = window.record(begin, size)
                if found.begin >= since:
                    return found
    return None


def _transactions(data: bytes, xid: int) -> Iterator[int]:
    """Where the end of a transaction may begin, in order."""
    import numpy as np

    words = np.frombuffer(data, dtype="<u8", count=len(data) // 8)
    if len(words) < RECORD.size // 8:
        return
    kinds = words[2:]
    ends = ((kinds >> np.uint64(8)) & np.uint64(0xFF)) == np.uint64(_XACT)
    for place in np.nonzero(ends & ((kinds & np.uint64(0xFFFF0000)) == 0))[0]:
        begin = int(place) * 8
        _, own, _, info, _, _, _ = RECORD.unpack_from(data, begin)
        if (info & _OPERATION in _ENDS and own == xid) or (
            info & _OPERATION in _ENDS_PREPARED and _stands_in(data, begin, xid)
        ):
            yield begin


def _stands_in(data: bytes, begin: int, xid: int) -> bool:
    """Whether a number stands in a record's data: whoever ends a prepared transaction has a number of its own."""
    size = size_at(data, begin)
    return size is not None and xid.to_bytes(4, "little") in data[begin + RECORD.size : begin + size]


def _names(data: bytes, name: bytes) -> Iterator[int]:
    at = data.find(name)
    while at >= 0:
        begin = at - _NAME_AT
        if begin >= 0 and begin % 8 == 0:
            _, _, _, info, manager, _, _ = RECORD.unpack_from(data, begin)
            if (manager, info & 0xF0) == (_XLOG, _RESTORE_POINT):
                yield begin
        at = data.find(name, at + 1)
