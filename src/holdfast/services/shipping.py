"""Shipping WAL: from a spool into the archive, in parallel, each file removed only after the archive has it.

Rules upheld here:
- A file that cannot be shipped stays, is named, and stops no other; nothing is ever dropped to make room. When it is
  the store that does not answer, or refuses whatever comes, the rest of the round waits for the next: each file would
  wait for it as long again.
- History files go first: a segment of a new timeline without its history could not be placed.
- A file that differs from what is archived under its name stops its timeline there: what comes behind it is another
  server's, or of another time, and would make the archive look whole. What is archived already is looked at first.
- Of an unfinished segment only what was written when it was first read is shipped, as a second look finds it: a first
  one may have passed the writer, and hold its later pages without the earlier ones.
- The newest whole segment of each timeline may be kept back from removal: pg_receivewal finds by it where to go on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO

import msgspec

from holdfast.errors import HoldfastError, WalConflict
from holdfast.model.timeline import TimelineHistory
from holdfast.model.wal import WalKind, WalName
from holdfast.postgres.walfile import check_segment, commit_times, segment_head
from holdfast.repository.wal_archive import Stored, WalArchive, WalHeader
from holdfast.services.shipping_round import ShippingRound
from holdfast.services.spool import Spool, Waiting
from holdfast.store.base import Bytes

WORKERS = 4
_IN_MEMORY = 256 << 20
"""Bytes of segments that are worked on at the same time."""

_AT_A_TIME = 64
"""Files of which is asked at a time whether they are archived already."""

Outcome = Stored | HoldfastError | None
"""What became of a file: None when it was not tried, for the store was away."""


class ShipReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one round did. `bytes` as read, `stored` on the store; `known` were archived already; `failed` names files.

    `left` counts what still waits afterwards, but for what is kept on purpose.
    """

    system: str
    shipped: int
    known: int
    bytes: int
    stored: int
    left: int
    seconds: float
    failed: tuple[str, ...] = ()
    error: HoldfastError | None = None


class Shipper:
    """Ships the files of one spool. Safe to call again and again; it remembers what the archive has confirmed."""

    def __init__(self, archive: WalArchive, spool: Spool, *, receiving: bool = False, workers: int = WORKERS) -> None:
        self._archive, self._spool = archive, spool
        self._receiving, self._workers = receiving, workers
        self._confirmed: dict[str, tuple[int, float]] = {}
        self._partials: set[str] = set()
        self._begun = False
        self._buffers = threading.local()

    def ship(self, *, partial: bool = True, notify: Callable[[str], None] = lambda _: None) -> ShipReport:
        """Ship everything that waits; with `partial` the unfinished segments too.

        Raises: WalNotReady when the spool is another cluster's or cannot be read. Failures of files are in the report.
        """
        started = time.monotonic()
        self._spool.claim(self._archive.system)
        waiting = [file for file in self._spool.waiting() if partial or file.name.kind is not WalKind.PARTIAL]
        kept = self._keep_back(waiting)
        todo = [file for file in waiting if self._confirmed.get(file.name.text) != _mark(file)]
        self._suspect_partials(todo)
        this, outcomes = ShippingRound(self._workers), list[tuple[Waiting, Outcome]]()
        for group in self._groups(todo, this):
            with ThreadPoolExecutor(self._workers_for(group), "wal") as pool:
                for file, outcome in zip(group, pool.map(lambda one: self._try(one, this), group), strict=True):
                    outcomes.append((file, outcome))
                    if isinstance(outcome, Stored):
                        self._settle(file, kept=file.name.text in kept)
                        notify(file.name.text)
        return self._report(outcomes, time.monotonic() - started)

    def has_confirmed(self, file: Waiting) -> bool:
        """Whether this very file is in the archive."""
        return self._confirmed.get(file.name.text) == _mark(file)

    def _workers_for(self, group: list[Waiting]) -> int:
        """Fewer for large segments: each worker holds one."""
        largest = max((file.size for file in group), default=1)
        return max(1, min(self._workers, _IN_MEMORY // max(largest, 1)))

    def _groups(self, todo: list[Waiting], this: ShippingRound) -> Iterator[list[Waiting]]:
        """Histories, then the others, some at a time: those whose names are archived already before the new ones."""
        yield [file for file in todo if file.name.kind is WalKind.HISTORY]
        others = [file for file in todo if file.name.kind is not WalKind.HISTORY]
        for at in range(0, len(others), _AT_A_TIME):
            some = others[at : at + _AT_A_TIME]
            known = self._known(some) if len(some) > 1 and not this.is_over else set()
            yield [file for file in some if file.name.text in known]
            yield [file for file in some if file.name.text not in known]

    def _known(self, files: list[Waiting]) -> set[str]:
        try:
            with ThreadPoolExecutor(self._workers, "wal") as pool:
                there = list(pool.map(lambda file: self._archive.has(file.name), files))
        except HoldfastError:
            return set()  # the store is away: the first one finds that out
        return {file.name.text for file, found in zip(files, there, strict=True) if found}

    def _try(self, file: Waiting, this: ShippingRound) -> Outcome:
        if this.is_over or this.diverged(file.name):
            return None
        try:
            return self._ship_one(file, this)
        except HoldfastError as error:
            this.failed(error)
            return error
        except FileNotFoundError:
            # A partial segment got its name since we looked: the next round sees it.
            return Stored(False, 0)

    def _ship_one(self, file: Waiting, this: ShippingRound) -> Stored:
        data = self._read(file)
        if file.name.kind is WalKind.PARTIAL and segment_head(data) is None:
            return Stored(False, 0)  # only allocated so far
        header = header_for(self._archive.system, file.name, data, file)
        try:
            stored = self._archive.put(file.name, data, header)
        except WalConflict:
            this.diverge(file.name)
            raise
        this.succeeded()
        if file.name.kind is WalKind.PARTIAL:
            self._partials.add(file.name.text)
        elif file.name.kind is WalKind.SEGMENT and partial_of(file.name).text in self._partials:
            self._archive.delete(partial_of(file.name))
            self._partials.discard(partial_of(file.name).text)
        return stored

    def _suspect_partials(self, todo: list[Waiting]) -> None:
        """What was there before we began may have been shipped, by whoever was before us, while it was received."""
        if self._receiving and not self._begun:
            self._partials.update(partial_of(file.name).text for file in todo if file.name.kind is WalKind.SEGMENT)
        self._begun = True

    def _read(self, file: Waiting) -> memoryview:
        """A file's content, in a buffer that each thread uses again: fresh memory costs more than the reading."""
        with open(file.path, "rb", buffering=0) as source:
            size = os.fstat(source.fileno()).st_size
            buffer: bytearray | None = getattr(self._buffers, "buffer", None)
            if buffer is None or len(buffer) < size:
                buffer = self._buffers.buffer = bytearray(size)
            data = _fill(source, memoryview(buffer)[:size])
            if file.name.kind is WalKind.PARTIAL:
                source.seek(0)
                _fill(source, data[: len(bytes(data).rstrip(b"\0"))])
        return data

    def _settle(self, file: Waiting, *, kept: bool) -> None:
        unfinished = file.name.kind is WalKind.PARTIAL and self._receiving
        if kept or unfinished:
            self._confirmed[file.name.text] = _mark(file)
        else:
            self._spool.remove(file)
            self._confirmed.pop(file.name.text, None)

    def _keep_back(self, waiting: list[Waiting]) -> set[str]:
        if not self._receiving:
            return set()
        newest: dict[int, str] = {}
        for file in waiting:
            if file.name.kind is WalKind.SEGMENT:
                newest[file.name.timeline] = max(newest.get(file.name.timeline, ""), file.name.text)
        kept = set(newest.values())
        for file in waiting:  # what was kept before and is not the newest any more
            superseded = file.name.text in self._confirmed and file.name.text not in kept
            if superseded and file.name.kind is WalKind.SEGMENT:
                self._settle(file, kept=False)
        return kept

    def _report(self, outcomes: list[tuple[Waiting, Outcome]], seconds: float) -> ShipReport:
        errors = [(file, outcome) for file, outcome in outcomes if isinstance(outcome, HoldfastError)]
        done = [(file, outcome) for file, outcome in outcomes if isinstance(outcome, Stored)]
        return ShipReport(
            system=self._archive.system,
            shipped=sum(outcome.new for _, outcome in done),
            known=sum(not outcome.new for _, outcome in done),
            bytes=sum(file.size for file, outcome in done if outcome.new),
            stored=sum(outcome.stored for _, outcome in done),
            left=len(outcomes) - len(done),
            seconds=seconds,
            failed=tuple(f"{file.name.text}: {error}" for file, error in errors),
            error=_worst([error for _, error in errors]),
        )


def _fill(source: FileIO, view: memoryview) -> memoryview:
    filled = 0
    while filled < len(view) and (count := source.readinto(view[filled:])):
        filled += count
    return view[:filled]


def header_for(system: str, name: WalName, data: Bytes, file: Waiting | None = None) -> WalHeader:
    """Check a file's content against its name, and what is to be remembered of it. Raises: WalConflict."""
    commits = None
    if name.kind in (WalKind.SEGMENT, WalKind.PARTIAL):
        head = check_segment(name, data, system)
        commits = commit_times(data, head.begin)
    elif name.kind is WalKind.HISTORY:
        try:
            TimelineHistory.parse(name.timeline, bytes(data).decode())
        except ValueError as error:
            raise WalConflict("this is no timeline's history", which=name.text, found=str(error)) from error
    return WalHeader(
        system=system,
        name=name.text,
        size=len(data),
        written=len(bytes(data).rstrip(b"\0")) if name.kind is WalKind.PARTIAL else None,
        seen=file.modified if file else None,
        first_commit=commits[0] if commits else None,
        last_commit=commits[1] if commits else None,
    )


def partial_of(name: WalName) -> WalName:
    """The name that a segment has while it is unfinished."""
    return WalName(f"{name.text}.partial", WalKind.PARTIAL, name.timeline, name.high, name.low)


def _mark(file: Waiting) -> tuple[int, float]:
    return file.inode, file.modified.timestamp()


def _worst(errors: list[HoldfastError]) -> HoldfastError | None:
    """A conflict before what passes by itself."""
    return min(errors, key=lambda error: (error.transient, not isinstance(error, WalConflict)), default=None)
