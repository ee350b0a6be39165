"""The end of a capture: manifest, packs, index, the snapshot last. Before it there is no backup, after it a whole one.

Rules upheld here:
- An empty tree whose last snapshot had files is a mistake (a wrong name, an unmounted disk) until someone says
  otherwise: SourceEmpty, nothing committed.
- A source that is `all_or_nothing` (the files of a database server) is not committed without one of its files.
- The lock is checked once more before the snapshot is stored.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec

from holdfast import __version__
from holdfast.errors import CorruptObject, HoldfastError, SourceEmpty, SourceUnreadable
from holdfast.model import manifest as layout
from holdfast.model.entry import Entry, InlineContent, Kind, Source
from holdfast.model.ids import PointId
from holdfast.model.manifest import Manifest
from holdfast.model.snapshot import Snapshot, tags_for
from holdfast.repository.archive import TreeArchiver
from holdfast.repository.file_capture import TreeStats
from holdfast.repository.lock import Lock
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository
from holdfast.repository.snapshot import SnapshotJson, save_snapshot, time_text
from holdfast.repository.writer import Added, BlobWriter
from holdfast.services.run import Run, SourceReport

_UNREADABLE = ": cannot be read: "
"""What the archiver says of a file that it could not read."""
_SHOWN = 3


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
    Raises: SourceEmpty, SourceUnreadable, the store's errors; then no snapshot was made.
    """
    archiver.settle()  # what goes wrong with the last contents belongs in the manifest
    if archiver.stats.unreadable and getattr(source, "all_or_nothing", False):
        _refuse_incomplete(source, archiver.stats)
    if not archiver.stats.files and parent is not None and not run.allow_empty:
        _refuse_emptied(repository, source, parent)
    stats = archiver.stats if before is None else _both(before, archiver.stats)
    tree = archiver.finish(_manifest_entries(source, stats.notes, run.stack, run.point, run.parts, started))
    added = blobs.finish()
    lock.ensure_there()  # from here on the snapshot is the commit
    tags = tags_for(
        stack=run.stack,
        source=source.label,
        point=run.point,
        parts=run.parts,
        size=stats.bytes,
        files=stats.files,
    )
    snapshot = save_snapshot(
        repository.store, repository.key, _snapshot_json(source, tree, tags, parent, run.host, started)
    )
    return _report(source, snapshot, parent, stats, added, (run.now() - started).total_seconds())


def _both(first: TreeStats, second: TreeStats) -> TreeStats:
    """The counts of two passes over one tree: the second knows what there is, the first what was new."""
    unreadable = [note for note in first.notes if _UNREADABLE in note]
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


@contextmanager
def let_go(entries: Iterable[Entry]) -> Iterator[Iterable[Entry]]:
    """Have a source's entries for a block; whatever happens it then lets go of what they hold: a transaction, say.

    Without this it would as soon as the error is forgotten that ended it, and that may be kept until others are done.
    """
    close: Callable[[], None] = getattr(entries, "close", lambda: None)
    try:
        yield entries
    except BaseException:
        with suppress(HoldfastError):  # what failed first is told
            close()
        raise
    close()


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


def _refuse_incomplete(source: Source, stats: TreeStats) -> None:
    lines = [note for note in stats.notes if _UNREADABLE in note]
    raise SourceUnreadable(
        "files of the data directory cannot be read, and without them it is no base backup: nothing was kept",
        which=source.label,
        wanted="every file",
        found="; ".join(lines[:_SHOWN]) + (f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""),
        hint="look at the server's disk (dmesg, smartctl -a): what cannot be read here, the server cannot read either",
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
