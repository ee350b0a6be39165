"""Fetching WAL ahead of a server that asks for it file by file: what it will want next lies there when it does.

Rules upheld here:
- The file that was asked for comes first, and its outcome is the answer. What follows it is a convenience: a segment
  that is not archived, not whole, or has no room is left until it is asked for, which then says why.
- What belongs to another branch than the recovery's is not brought along: the server does not ask again.
- A segment appears in the folder whole and durable, or not at all: the server takes whatever has the name, and what is
  cut off would end its recovery early. Partial segments are never fetched ahead.
- The folder holds at most `AHEAD` bytes of what comes next: what lies behind what was asked for is removed.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from holdfast.errors import HoldfastError
from holdfast.model.wal import WalKind, WalSegment, parse_wal_name
from holdfast.postgres.walfile import segment_head
from holdfast.repository.repository import Repository
from holdfast.services.wal_restore import FETCHING, fetch

log = logging.getLogger(__name__)

AHEAD = 256 << 20
_HEAD = 64
"""Bytes of a segment that tell the size of segments."""


def fetch_with_next(
    repository: Repository, system: str, name: str, target: str, folder: str, *, timeline: int | None = None
) -> None:
    """Write one WAL file to a path, and the segments that follow it into a folder, which is made.

    With a timeline only what belongs to its history. Raises: as `wal_restore.fetch`.
    """
    fetch(repository, system, name, target, timeline=timeline)
    parsed = parse_wal_name(name)
    if parsed is None or parsed.kind is not WalKind.SEGMENT:
        return
    with open(target, "rb") as file:
        head = segment_head(file.read(_HEAD))
    if head is None:
        return
    first = parsed.segment(head.segment_size)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        _sweep(folder, first.name)
    except OSError as error:
        log.warning("no WAL is fetched ahead: %s: %s", folder, error.strerror)
        return
    following = [WalSegment(first.timeline, first.number + more, first.size) for more in _numbers(first.size)]
    with ThreadPoolExecutor(FETCHING, "ahead") as pool:
        list(pool.map(lambda segment: _fetch_ahead(repository, system, segment.name, folder, timeline), following))


def _numbers(size: int) -> range:
    return range(1, AHEAD // size + 1)


def _fetch_ahead(repository: Repository, system: str, name: str, folder: str, timeline: int | None) -> None:
    target = os.path.join(folder, name)
    if not os.path.exists(target):
        with suppress(HoldfastError):  # told when the server asks for it
            fetch(repository, system, name, target, timeline=timeline, whole=True)


def _sweep(folder: str, name: str) -> None:
    """Remove a segment that has come, and what lies before it or on an earlier timeline: the server is past it."""
    for other in os.listdir(folder):
        if other <= name and parse_wal_name(other) is not None:
            os.unlink(os.path.join(folder, other))
