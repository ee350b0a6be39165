"""WAL out of the archive: one file for a restore_command, or all that a recovery needs, in parallel.

Rules upheld here:
- A file appears under its name whole and durable, or not at all: PostgreSQL takes whatever is there.
- Every object is checked (seal, name, cluster) before a byte of it is written.
- Many wait for the store, but only as many work as there are cores: more would only be in each other's way, and each
  holds a segment. Content passes through a small buffer, which stays in the processor's cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from holdfast.errors import RestoreError, WalMissing
from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import DEFAULT_SEGMENT_SIZE, Lsn, WalKind, WalName, WalSegment, history_name, parse_wal_name
from holdfast.policy.recovery_targets import RecoveryPlan
from holdfast.policy.wal import Stock
from holdfast.postgres.walfile import segment_head
from holdfast.repository.cores import AT_WORK
from holdfast.repository.repository import Repository
from holdfast.repository.wal_archive import WalArchive
from holdfast.services.replay import refuse_foreign
from holdfast.services.shipping import partial_of
from holdfast.store.durable import publish, write_unfinished

FETCHING = 8
"""Requests to the store at the same time."""
_IN_MEMORY = 256 << 20
"""Bytes of segments that are held at the same time."""
_BUFFER = 256 << 10

Watch = Callable[[str, memoryview], None]
"""Sees each piece of a file on its way, with the file's name. Called from several threads."""


def fetch(
    repository: Repository, system: str, name: str, target: str, *, timeline: int | None = None, whole: bool = False
) -> None:
    """Write one WAL file to a path. A segment that is archived only as far as it was written is given as that.

    With a timeline only what belongs to its history: where a segment is missing PostgreSQL asks for that of an older
    timeline, on which a server that was left behind may have gone on. With `whole` a partial segment is missing.

    Raises: WalMissing when the archive does not hold it; CorruptObject, RestoreError, the store's errors.
    """
    parsed = parse_wal_name(name)
    if parsed is None or not system.isdigit():
        raise WalMissing("this is no WAL file's name", which=name)
    archive = WalArchive(repository.store, repository.key, system)
    try:
        _, data = archive.read(parsed)
    except WalMissing:
        if whole or parsed.kind is not WalKind.SEGMENT:
            raise
        _, data = archive.read(partial_of(parsed))
    head = segment_head(data) if parsed.kind is WalKind.SEGMENT else None
    if head is not None:
        if timeline is not None:
            _require_of_history(archive, timeline, parsed, head.segment_size)
        refuse_foreign(data, Lsn(head.begin))
    _write(target, data)


def _require_of_history(archive: WalArchive, timeline: int, name: WalName, size: int) -> None:
    history = archive.history(timeline) if timeline > 1 else TimelineHistory(1)
    owner = history.owner(name.segment(size).number, size)
    if owner != name.timeline:
        raise WalMissing(
            "this WAL file is of another branch",
            which=name.text,
            wanted=f"timeline {owner}, to which it belongs in the history of {timeline}",
        )


def prefetch(
    archive: WalArchive,
    plan: RecoveryPlan,
    folder: str,
    *,
    histories: Stock,
    notify: Callable[[int], None] = lambda _: None,
    watch: Watch | None = None,
) -> int:
    """Write every file that a recovery plan needs into a folder, which is made; the bytes written.

    All histories come along, those of other branches as well: a promotion takes the first timeline without one.
    `watch` is shown every piece of every segment.

    Raises: WalMissing, CorruptObject, RestoreError, the store's errors.
    """
    try:
        os.mkdir(folder, 0o700)
    except OSError as error:
        raise RestoreError("cannot make the folder for WAL", which=folder, found=error.strerror) from error
    jobs: list[tuple[WalName, str]] = [(_named(segment), segment.name) for segment in plan.segments]
    if plan.partial is not None:
        jobs.append((partial_of(_named(plan.partial)), plan.partial.name))
    jobs.extend(
        (WalName(history_name(number), WalKind.HISTORY, number), history_name(number)) for number in histories.histories
    )

    return bring_all(archive, jobs, folder, segment_size=histories.segment_size, notify=notify, watch=watch)


def bring_all(
    archive: WalArchive,
    jobs: Sequence[tuple[WalName, str]],
    folder: str,
    *,
    segment_size: int = DEFAULT_SEGMENT_SIZE,
    notify: Callable[[int], None] = lambda _: None,
    watch: Watch | None = None,
) -> int:
    """Write archived files into a folder, each under the name beside it, several at a time; the bytes written.

    Raises: as `prefetch`.
    """
    buffers = threading.local()

    def bring(job: tuple[WalName, str]) -> int:
        sealed = archive.sealed(job[0])
        with AT_WORK:
            if not hasattr(buffers, "buffer"):
                buffers.buffer = bytearray(_BUFFER)
            pieces: Iterable[memoryview] = archive.pieces(job[0], sealed, buffers.buffer)
            if watch is not None:
                pieces = _watched(pieces, job[1], watch)
            written = _write_pieces(os.path.join(folder, job[1]), pieces)
        notify(written)
        return written

    with ThreadPoolExecutor(max(1, min(FETCHING, _IN_MEMORY // segment_size)), "wal") as pool:
        return sum(pool.map(bring, jobs))


def _watched(pieces: Iterable[memoryview], name: str, watch: Watch) -> Iterator[memoryview]:
    for piece in pieces:
        watch(name, piece)
        yield piece


def _write(target: str, data: bytes) -> None:
    """Write a file whole and durable, in place of what is there."""
    try:
        publish(write_unfinished(os.path.dirname(target), data), target, replace=True)
    except OSError as error:
        raise _cannot_write(target, error) from error


def _write_pieces(target: str, pieces: Iterable[memoryview]) -> int:
    """Write a new file, which nobody looks at before all are there; the bytes written."""
    written = 0
    try:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for piece in pieces:
                rest = piece
                while rest:
                    rest = rest[os.write(fd, rest) :]
                written += len(piece)
        finally:
            os.close(fd)
    except OSError as error:
        raise _cannot_write(target, error) from error
    return written


def _cannot_write(target: str, error: OSError) -> RestoreError:
    return RestoreError("cannot write a WAL file", which=target, found=error.strerror or str(error))


def _named(segment: WalSegment) -> WalName:
    name = parse_wal_name(segment.name)
    assert name is not None  # noqa: S101  it was made from a segment
    return name
