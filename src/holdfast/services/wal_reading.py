"""Looking into an archive: the times of commits, and where transactions, restore points and last records lie.

Rules upheld here:
- Segments are fetched a few ahead, several at a time, and looked at in order; no more of them are held.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from holdfast.model.base import RecoveryTarget, TargetKind
from holdfast.model.wal import Lsn, WalName, WalSegment, parse_wal_name
from holdfast.policy.recovery_targets import LastCommit, Piece
from holdfast.postgres.walpages import Content
from holdfast.postgres.walrecords import last_record, restore_point, transaction_end
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.shipping import partial_of

_AHEAD = 4
_IN_MEMORY = 256 << 20
"""Bytes of segments that are held at the same time."""


def commit_reader(archive: WalArchive) -> LastCommit:
    """Reads the last commit's time of archived segments, each once."""
    known: dict[Piece, datetime | None] = {}

    def read(segment: WalSegment, partial: bool) -> datetime | None:
        piece = (segment, partial)
        if piece not in known:
            known[piece] = archive.read(name_of(piece))[0].last_commit
        return known[piece]

    return read


class ArchivedRecords:
    """What `policy.recovery_targets.Records` asks for, from an archive."""

    def __init__(self, archive: WalArchive) -> None:
        self._archive = archive

    def find(self, target: RecoveryTarget, pieces: Sequence[Piece], since: Lsn) -> tuple[Lsn, Lsn] | None:
        """The first end of the transaction, or the first restore point. Raises: CorruptObject, the store's errors."""
        with contextlib.closing(self._contents(pieces)) as contents:
            if target.kind is TargetKind.XID:
                found = transaction_end(contents, int(target.text), since=since)
            else:
                found = restore_point(contents, target.text, since=since)
        return (found.begin, found.end) if found else None

    def last(self, pieces: Sequence[Piece]) -> Lsn | None:
        """Where the last whole record begins. Raises: CorruptObject, the store's errors."""
        with contextlib.closing(self._contents(pieces)) as contents:
            found = last_record(contents)
        return found.begin if found else None

    def _contents(self, pieces: Sequence[Piece]) -> Generator[Content, None, None]:
        ahead = max(1, min(_AHEAD, _IN_MEMORY // pieces[0][0].size)) if pieces else 1
        with ThreadPoolExecutor(ahead, "wal") as pool:
            for at in range(0, len(pieces), ahead):
                yield from pool.map(self._read, pieces[at : at + ahead])

    def _read(self, piece: Piece) -> Content:
        return piece[0].begin, self._archive.read(name_of(piece))[1]


def name_of(piece: Piece) -> WalName:
    """The name under which a piece is archived."""
    segment, partial = piece
    name = parse_wal_name(segment.name)
    assert name is not None  # noqa: S101  it was made from a segment
    return partial_of(name) if partial else name
