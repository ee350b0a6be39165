"""Backup: capture sources into snapshots; the snapshots of one run are a restore point.

Rules upheld here:
- Order on the store: packs, index, snapshot. A source that fails half-way raises before its snapshot exists.
- An empty tree whose last snapshot had files is a mistake (a wrong name, an unmounted disk) until someone says
  otherwise: SourceEmpty, nothing committed.
- The lock is held from before the index is read until the snapshot is committed, and checked once more before that.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from holdfast import __version__
from holdfast.errors import CorruptObject, SourceEmpty
from holdfast.model import manifest as layout
from holdfast.model.entry import Entry, InlineContent, Kind, Source
from holdfast.model.ids import PointId, SnapshotId, new_point_id
from holdfast.model.manifest import Manifest
from holdfast.model.snapshot import Snapshot, tags_for
from holdfast.repository.archive import Parent, TreeArchiver, TreeStats
from holdfast.repository.blobs import DEFAULT_LEVEL
from holdfast.repository.lock import Lock
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository
from holdfast.repository.snapshot import EPOCH, SnapshotJson, save_snapshot, time_text
from holdfast.repository.writer import Added, BlobWriter

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


def take_backup(
    repository: Repository,
    stack: str,
    sources: Sequence[Source],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    hostname: str | None = None,
    allow_empty: bool = False,
    level: int = DEFAULT_LEVEL,
    on_progress: OnProgress | None = None,
) -> BackupReport:
    """Capture every source of a stack, one after the other, into one restore point.

    Raises: SourceError and its kind, RepositoryLocked, the store's errors. Snapshots of sources that were captured
    before the failure stay, as an incomplete restore point that retention never counts.
    """
    started = now()
    point = new_point_id(started)
    reports = [
        capture(
            repository,
            source,
            stack=stack,
            point=point,
            parts=len(sources),
            now=now,
            hostname=hostname,
            allow_empty=allow_empty,
            level=level,
            on_progress=on_progress,
        )
        for source in sources
    ]
    seconds = (now() - started).total_seconds()
    return BackupReport(stack=stack, point=point, started=started, seconds=seconds, sources=tuple(reports))


def capture(
    repository: Repository,
    source: Source,
    *,
    stack: str,
    point: PointId,
    parts: int,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    hostname: str | None = None,
    allow_empty: bool = False,
    level: int = DEFAULT_LEVEL,
    on_progress: OnProgress | None = None,
) -> SourceReport:
    """Capture one source into one snapshot of a restore point that has `parts` snapshots in all.

    Raises: SourceError and its kind, RepositoryLocked, the store's errors; then no snapshot was made.
    """
    run = Run(
        stack=stack,
        point=point,
        parts=parts,
        host=hostname or socket.gethostname(),
        now=now,
        allow_empty=allow_empty,
        level=level,
        on_progress=on_progress,
    )
    return capture_live(repository, run, source)


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


def capture_live(repository: Repository, run: Run, source: Source) -> SourceReport:
    """Capture one source while it lives. Raises: as `capture`."""
    # The instant before anything is read: a file whose time is at or after it is read again by the next run.
    started = run.now()
    with repository.lock() as lock:
        repository.refresh()
        parent = run.parent_of(repository, source)
        with repository.writer(level=run.level) as blobs:
            archiver = TreeArchiver(blobs, repository.reader, compared_with(parent), run.notify(source))
            entries = source.entries()
            archive_data(archiver, archiver.in_order(entries) if getattr(source, "unordered", False) else entries)
            return commit(repository, run, source, archiver, blobs, lock, parent=parent, started=started)


def commit(
    repository: Repository,
    run: Run,
    source: Source,
    archiver: TreeArchiver,
    blobs: BlobWriter,
    lock: Lock,
    *,
    parent: Snapshot | None,
    started: datetime,
    before: TreeStats | None = None,
) -> SourceReport:
    """Finish a capture: manifest, packs, index, and the snapshot last.

    `before` are the counts of a first pass, for the report: what was new since the parent snapshot was seen by it.
    Raises: SourceEmpty, the store's errors; then no snapshot was made.
    """
    archiver.settle()  # what goes wrong with the last contents belongs in the manifest
    if not archiver.stats.files and parent is not None and not run.allow_empty:
        _refuse_emptied(repository, source, parent)
    stats = archiver.stats if before is None else _both(before, archiver.stats)
    tree = archiver.finish(_manifest_entries(source, stats.notes, run.stack, run.point, run.parts, started))
    added = blobs.finish()
    lock.ensure_held()  # from here on the snapshot is the commit
    tags = tags_for(stack=run.stack, source=source.label, point=run.point, parts=run.parts, size=stats.bytes)
    snapshot = save_snapshot(
        repository.store, repository.key, _snapshot_json(source, tree, tags, parent, run.host, started)
    )
    return _report(source, snapshot, parent, stats, added, (run.now() - started).total_seconds())


def _both(first: TreeStats, second: TreeStats) -> TreeStats:
    """The counts of two passes over one tree: the second knows what there is, the first what was new."""
    unreadable = [note for note in first.notes if ": cannot be read: " in note]
    changed = min(first.files_new + first.files_changed, second.files)
    return TreeStats(
        files_new=min(first.files_new, second.files),
        files_changed=max(0, changed - min(first.files_new, second.files)),
        files_unmodified=second.files - changed,
        directories=second.directories,
        others=second.others,
        bytes=second.bytes,
        notes=[*unreadable, *second.notes],
        unreadable=first.unreadable + second.unreadable,
    )


def archive_data(archiver: TreeArchiver, entries: Iterable[Entry]) -> None:
    """Hand a source's entries to the archiver, below the directory that holds the data."""
    for entry in entries:
        entry.path = layout.DATA + b"/" + entry.path if entry.path else layout.DATA
        archiver.add(entry)


def _manifest_entries(
    source: Source, notes: Sequence[str], stack: str, point: PointId, parts: int, started: datetime
) -> list[Entry]:
    manifest = Manifest(
        stack=stack,
        source=source.label,
        point=point,
        parts=parts,
        holdfast=__version__,
        facts=dict(source.facts()),
        notes=(*source.notes, *notes),
    )
    stamp = int(started.timestamp()) * 1_000_000_000
    folder = Entry(layout.FOLDER, Kind.DIR, 0o755, mtime_ns=stamp, ctime_ns=stamp)
    document = Entry(layout.FOLDER + b"/" + layout.NAME, Kind.FILE, 0o644, mtime_ns=stamp, ctime_ns=stamp)
    document.content = InlineContent(msgspec.json.encode(manifest))
    return [folder, document]


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


def _refuse_emptied(repository: Repository, source: Source, parent: Snapshot) -> None:
    try:
        had = any(
            node.type == "file" and not path.startswith(layout.FOLDER + b"/")
            for path, node in walk(repository.reader, parent.tree)
        )
    except CorruptObject:
        had = True
    if had:
        raise SourceEmpty(
            "the source holds no file, its last snapshot did",
            which=source.label,
            wanted=f"files, as in snapshot {parent.short_id} of {parent.time:%Y-%m-%d %H:%M}",
            found="none",
            hint="check the name and that its disk is mounted; if it is meant to be empty: --allow-empty",
        )


def _snapshot_json(
    source: Source, tree: str, tags: Sequence[str], parent: Snapshot | None, host: str, started: datetime
) -> SnapshotJson:
    return SnapshotJson(
        time=time_text(started),
        parent=parent.id if parent else "",
        tree=tree,
        # restic groups and finds parents by paths: a plain path is its own, anything else its label.
        paths=[source.label.removeprefix("path:")],
        hostname=host,
        username=getpass.getuser(),
        uid=os.getuid(),
        gid=os.getgid(),
        tags=list(tags),
        program_version=f"holdfast {__version__}",
    )


def _report(
    source: Source, snapshot: Snapshot, parent: Snapshot | None, stats: TreeStats, added: Added, seconds: float
) -> SourceReport:
    return SourceReport(
        source=source.label,
        snapshot=snapshot.id,
        parent=parent.id if parent else None,
        files_new=stats.files_new,
        files_changed=stats.files_changed,
        files_unmodified=stats.files_unmodified,
        directories=stats.directories - 2,  # not the user's: the manifest's folder and the one that holds the data
        bytes_processed=stats.bytes,
        bytes_added=added.bytes,
        bytes_stored=added.stored,
        seconds=seconds,
        incomplete=stats.unreadable,
        fuzzy=sum("changed while it was read" in note for note in stats.notes),
        notes=(*source.notes, *stats.notes),
    )
