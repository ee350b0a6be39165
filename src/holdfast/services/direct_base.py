"""A base backup read directly from the server's files: parallel, unchanged relation files not read, pages checked.

Rules upheld here:
- The session that began the backup stays open until it is over; when it is lost, the backup is lost.
- The label that PostgreSQL gives at the end goes into the snapshot byte for byte: without it a recovery would begin at
  the wrong place.
- A page whose checksum is wrong is read once more; one that was changed since the backup began is the WAL's affair.
  Whatever is still wrong is named in the snapshot's notes, and the backup goes on: the rest of it is worth having.
- A file that cannot be read at all fails the backup, and nothing is committed: a data directory without it is none.

Source: PostgreSQL manual, "Making a Base Backup Using the Low Level API".
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from holdfast.errors import BaseBackupFailed
from holdfast.model.entry import Content, Entry, LateContent
from holdfast.model.wal import Lsn
from holdfast.postgres.backup_manifest import Manifest
from holdfast.postgres.server import Server
from holdfast.postgres.session import Session
from holdfast.postgres.taken import CUT, Taken, Wanted, base_facts, begin, end, leave_canary
from holdfast.sources.pages import PAGE, bad_pages
from holdfast.sources.pgdata import PgDataTree

_SEGMENT_BLOCKS = (1 << 30) // PAGE
_SHOWN = 20


class DirectBase:
    """One cluster whose data directory can be read from here: a Source.

    Args:
        server: where it runs.
        wanted: what it is called, and what is recorded.
        root: PGDATA, as it can be read from here.
        tablespaces: where each tablespace can be read from here, by its oid.
    """

    all_or_nothing = True
    """Whoever captures commits nothing when a file cannot be read."""

    def __init__(self, server: Server, wanted: Wanted, *, root: str, tablespaces: Mapping[int, str]) -> None:
        self._server, self._wanted, self._root, self._tablespaces = server, wanted, root, dict(tablespaces)
        self._taken: Taken | None = None
        self._tree: PgDataTree | None = None
        self._pages: _Pages | None = None
        self._notes: list[str] = []
        self.drain: Callable[[], None] = lambda: None
        """Waits until everything that was handed over is read: set by whoever captures."""

    @property
    def label(self) -> str:
        """What it is, for people and for grouping."""
        return self._wanted.label

    @property
    def notes(self) -> Sequence[str]:
        """Pages that are damaged on the server; asked for when every content was read."""
        if self._pages is not None:
            self._notes.extend(self._pages.damaged())
            self._pages = None
        return self._notes

    def entries(self) -> Iterator[Entry]:
        """PGDATA and all tablespaces, in path order. Raises: BaseBackupFailed, SourceUnreadable, as the session."""
        label, spaces = LateContent(), LateContent()
        late: dict[bytes, Content] = {b"backup_label": label, b"tablespace_map": spaces}
        with self._server.session() as session:
            taken = self._taken = begin(session, self.label)
            cluster = taken.cluster
            start = _start(session, cluster.version, f"holdfast {self.label}")
            self._pages = _Pages(self._root, start) if cluster.checksums else None
            self._tree = PgDataTree(
                self._root,
                tablespaces=self._tablespaces,
                cut=CUT,
                late=late,
                inspect=self._pages.look if self._pages else None,
            )
            yield from self._tree.entries()
            self.drain()  # a file that is read after the stop holds what recovery to the backup's end must not see
            stop, label_file, map_file = _stop(session, cluster.version)
            self._require_all_tablespaces(map_file)
            end(session, taken)
        taken.manifest = Manifest(_timeline(label_file, self.label), start, stop, {}, cluster.system)
        label.settle(label_file.encode())
        spaces.settle(map_file.encode() if map_file else None)
        leave_canary(self._server, taken, self._wanted)

    def _require_all_tablespaces(self, map_file: str) -> None:
        """Those that were there when the backup began are those that were walked. Raises: BaseBackupFailed."""
        there = {line.partition(" ")[0] for line in map_file.splitlines() if line}
        if unknown := sorted(there - {str(oid) for oid in self._tablespaces}):
            raise BaseBackupFailed(
                "a tablespace was made just before the backup began, and is not in it",
                which=f"{self.label}: {', '.join(unknown)}",
                hint="nothing was stored; take it again: holdfast backup",
            )

    def facts(self) -> Mapping[str, object]:
        """Identity, place in the WAL, settings, and what a drill compares."""
        assert self._taken is not None  # noqa: S101  facts are asked for after the entries
        assert self._tree is not None  # noqa: S101  the same
        facts = base_facts(self._server, self._taken, self._wanted, "direct")
        facts = msgspec.structs.replace(facts, size=self._tree.bytes, files=self._tree.files)
        built: dict[str, object] = msgspec.to_builtins(facts)
        return built


class _Pages:
    """Looks at pages as they pass, and at the suspicious ones once more."""

    def __init__(self, root: str, start: Lsn) -> None:
        self._root, self._start = os.fsencode(root), start
        self._lock = threading.Lock()
        self._suspects: list[tuple[bytes, int]] = []

    def look(self, path: bytes, offset: int, data: memoryview) -> None:
        """Check the pages of one piece. Pages written since the backup began are left to the WAL."""
        if b"_" in path.rpartition(b"/")[2]:
            return  # free space and visibility maps are not worth an alarm: PostgreSQL repairs them by itself
        first = _first_block(path) + offset // PAGE
        wrong = [block for block, lsn in bad_pages(data, first) if lsn < self._start]
        if wrong:
            with self._lock:
                self._suspects.extend((path, block) for block in wrong)

    def damaged(self) -> list[str]:
        """The pages that are still wrong when they are read again, one line for each, the first of them."""
        lines = [
            f"{os.fsdecode(path)}: page {block} is damaged on the server: its checksum is wrong"
            for path, block in self._suspects
            if self._still_wrong(path, block)
        ]
        if len(lines) > _SHOWN:
            return [*lines[:_SHOWN], f"and {len(lines) - _SHOWN} more damaged pages"]
        return lines

    def _still_wrong(self, path: bytes, block: int) -> bool:
        try:
            with open(os.path.join(self._root, path), "rb", buffering=0) as file:
                data = os.pread(file.fileno(), PAGE, (block - _first_block(path)) * PAGE)
        except FileNotFoundError:
            return False
        return any(lsn < self._start for _, lsn in bad_pages(data, block))


def _first_block(path: bytes) -> int:
    """The number of a relation file's first block: each file holds 1 GiB."""
    found = re.search(rb"\.(\d+)$", path)
    return int(found[1]) * _SEGMENT_BLOCKS if found else 0


def _start(session: Session, version: int, label: str) -> Lsn:
    literal = label.replace("'", "''")
    function = (
        f"pg_backup_start('{literal}', true)" if version >= 150_000 else f"pg_start_backup('{literal}', true, false)"
    )
    return Lsn.parse(session.query(f"SELECT {function}::text AS lsn")[0]["lsn"])


def _stop(session: Session, version: int) -> tuple[Lsn, str, str]:
    function = "pg_backup_stop(false)" if version >= 150_000 else "pg_stop_backup(false, false)"
    columns = "lsn::text AS lsn, labelfile AS label, spcmapfile AS spaces"
    row = session.query(f"SELECT {columns} FROM {function}")[0]  # noqa: S608  constants
    return Lsn.parse(row["lsn"]), str(row["label"]), str(row["spaces"] or "")


def _timeline(label: str, which: str) -> int:
    found = re.search(r"(?m)^START TIMELINE: (\d+)$", label)
    if found is None:
        raise BaseBackupFailed("the backup label cannot be understood", which=which, found=label[:200])
    return int(found[1])
