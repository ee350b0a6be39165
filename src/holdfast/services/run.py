"""What all captures of one run of a stack share, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from holdfast.errors import BackupIncomplete
from holdfast.model.entry import Source
from holdfast.model.ids import PointId, SnapshotId
from holdfast.model.snapshot import Snapshot
from holdfast.model.words import files
from holdfast.repository.archive import Parent
from holdfast.repository.blobs import DEFAULT_LEVEL
from holdfast.repository.file_capture import TreeStats
from holdfast.repository.repository import Repository
from holdfast.repository.snapshot import EPOCH

OnProgress = Callable[[str, TreeStats], None]
"""Told now and then: the source's label, and what was seen of it so far."""


class SourceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one capture did. Bytes: `processed` of content seen, `added` new plaintext, `stored` on the store for it.

    `incomplete` counts files that could not be read and are missing from the snapshot; `notes` name them.
    `held` is how long each container was held, in seconds; `reread` counts files that were read meanwhile, `fuzzy`
    files that changed while they were read.
    """

    source: str
    snapshot: SnapshotId
    parent: SnapshotId | None
    files_new: int
    files_changed: int
    files_unmodified: int
    directories: int
    bytes_processed: int
    bytes_added: int
    bytes_stored: int
    seconds: float
    incomplete: int = 0
    notes: tuple[str, ...] = ()
    held: Mapping[str, float] = {}
    reread: int = 0
    fuzzy: int = 0


class BackupReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a stack did."""

    stack: str
    point: PointId
    started: datetime
    seconds: float
    sources: tuple[SourceReport, ...]

    @property
    def incomplete(self) -> int:
        """Files of all sources that could not be read."""
        return sum(source.incomplete for source in self.sources)

    @property
    def problem(self) -> BackupIncomplete | None:
        """What is wrong with a run that came to its end: files are missing from what it made."""
        if not self.incomplete:
            return None
        where = ", ".join(source.source for source in self.sources if source.incomplete)
        return BackupIncomplete(
            f"{files(self.incomplete)} could not be read; the restore point {self.point} was kept nonetheless",
            which=self.stack,
            wanted="every file of its sources",
            found=f"some are missing from {where}",
            hint="the notes of the run name them: make them readable, or exclude them",
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What all captures of one run share."""

    stack: str
    point: PointId
    parts: int
    host: str
    now: Callable[[], datetime]
    allow_empty: bool = False
    level: int = DEFAULT_LEVEL
    on_progress: OnProgress | None = None

    def parent_of(self, repository: Repository, source: Source) -> Snapshot | None:
        """The last snapshot of the same source of the same stack on the same host."""
        return _find_parent(repository, self.stack, source.label, self.host)

    def notify(self, source: Source) -> Callable[[TreeStats], None] | None:
        """What an archiver tells of its progress."""
        tell = self.on_progress
        return (lambda stats: tell(source.label, stats)) if tell else None


def _find_parent(repository: Repository, stack: str, source: str, host: str) -> Snapshot | None:
    same = [
        snapshot
        for snapshot in repository.snapshots().snapshots
        if snapshot.source == source and snapshot.stack == stack and snapshot.hostname == host
    ]
    return same[-1] if same else None


def compared_with(parent: Snapshot | None) -> Parent | None:
    """What an archiver compares with."""
    if parent is None:
        return None
    return Parent(parent.tree, int((parent.time - EPOCH).total_seconds() * 1e9))
