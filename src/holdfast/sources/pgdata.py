"""Walking a PostgreSQL data directory that is in use, between `pg_backup_start` and `pg_backup_stop`.

Rules upheld here:
- What PostgreSQL documents as not to be copied is left out: the contents of pg_wal and of what is made anew at each
  start, temporary files and relations, and unlogged relations but for their init forks.
- Files may change while they are read: the WAL makes them whole. Those that vanish were dropped, and the WAL knows.
- The control file is what the WAL does not make whole: it is read until two readings agree, for the server writes it
  over at each checkpoint.
- Tablespaces are walked where they are, and lie as plain directories below pg_tblspc in the backup. A link that leads
  out of the data directory is never stored there: a copy would follow it into the original's files.
- PGDATA may be reached through a link: the directory itself is what is meant.

Source: PostgreSQL manual, "Backing Up The Data Directory"; src/backend/backup/basebackup.c (excludeDirContents,
excludeFiles), reinit.c.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping

from holdfast.errors import SourceUnreadable
from holdfast.model.entry import Content, Entry, InlineContent, Kind, LocalFile

EMPTIED = frozenset(
    {
        b"pg_dynshmem",
        b"pg_notify",
        b"pg_replslot",
        b"pg_serial",
        b"pg_snapshots",
        b"pg_stat_tmp",
        b"pg_subtrans",
        b"pg_wal",
    }
)
"""Folders of which only the folder itself is kept."""

_LEFT_OUT = re.compile(
    rb"postmaster\.(?:pid|opts)|pgsql_tmp.*|pg_internal\.init.*|current_logfiles(?:\.tmp)?|backup_(?:label|manifest)"
    rb"(?:\.old)?|tablespace_map(?:\.old)?|postgresql\.auto\.conf\.tmp|holdfast_.*|t\d+_\d+(?:_[a-z]+)?(?:\.\d+)?|\.holdfast.*"
)
RELATION = re.compile(rb"(?P<number>\d+)(?P<fork>_(?:fsm|vm|init))?(?:\.\d+)?")
_CONTROL = b"global/pg_control"
_READINGS = 1000
_DATABASES = re.compile(rb"base/\d+|global|pg_tblspc/\d+/[^/]+/\d+")

Inspect = Callable[[bytes, int, memoryview], None]
"""Looks at pages on their way: the file's path below PGDATA, the offset, the bytes. Called from several threads."""


class PgDataTree:
    """The entries of a data directory, in path order.

    Args:
        root: PGDATA, as it can be read from here.
        tablespaces: where each tablespace can be read from here, by its oid.
        cut: the size of a relation file's blobs, bytes.
        late: files of the root that are known only at the end of the backup: their contents by name.
        inspect: looks at the pages of main forks.
    """

    def __init__(
        self,
        root: str,
        *,
        tablespaces: Mapping[int, str],
        cut: int,
        late: Mapping[bytes, Content],
        inspect: Inspect | None = None,
    ) -> None:
        self._root = os.fsencode(root)
        self._tablespaces = {str(oid).encode(): os.fsencode(path) for oid, path in tablespaces.items()}
        self._cut, self._late, self._inspect = cut, dict(late), inspect
        self.files = 0
        self.bytes = 0

    def entries(self) -> Iterator[Entry]:
        """The root, then everything below it. Raises: SourceUnreadable."""
        status = self._stat(os.path.realpath(self._root))
        if status is None:
            raise SourceUnreadable("the data directory is not there", which=os.fsdecode(self._root))
        yield _entry(b"", Kind.DIR, status)
        yield from self._folder(b"", self._root, status)

    def _folder(self, below: bytes, full: bytes, above: os.stat_result) -> Iterator[Entry]:
        names = self._names(full, top=not below)
        if _DATABASES.fullmatch(below):
            names = _without_unlogged(names)
        late = self._late if not below else {}
        for name in sorted({*names, *late}):
            path = below + b"/" + name if below else name
            if name in late:
                entry = Entry(path, Kind.FILE, 0o600, above.st_uid, above.st_gid, content=late[name])
                entry.mtime_ns = entry.ctime_ns = above.st_mtime_ns
                yield entry
            elif below == b"pg_tblspc" and name in self._tablespaces:
                yield from self._directory(path, self._tablespaces[name])
            elif below == b"pg_tblspc" and os.path.islink(os.path.join(full, name)):
                continue  # made since the backup began: the WAL makes it anew, and nobody shall follow the link
            else:
                yield from self._item(path, os.path.join(full, name))

    def _item(self, path: bytes, full: bytes) -> Iterator[Entry]:
        status = self._stat(full)
        if status is None:
            return
        if stat.S_ISLNK(status.st_mode) and path == b"pg_wal":
            status = os.stat(full)  # on a volume of its own: only the folder is kept anyway
        if stat.S_ISDIR(status.st_mode):
            yield from self._directory(path, full)
        elif stat.S_ISREG(status.st_mode):
            yield self._file(path, full, status)
        elif stat.S_ISLNK(status.st_mode):
            entry = _entry(path, Kind.SYMLINK, status)
            entry.link_target = os.readlink(full)
            yield entry

    def _directory(self, path: bytes, full: bytes) -> Iterator[Entry]:
        try:
            status = os.stat(full)
        except FileNotFoundError:
            return
        yield _entry(path, Kind.DIR, status)
        if path == b"pg_wal":
            yield _entry(path + b"/archive_status", Kind.DIR, status)
        elif path not in EMPTIED:
            yield from self._folder(path, full, status)

    def _file(self, path: bytes, full: bytes, status: os.stat_result) -> Entry:
        entry = _entry(path, Kind.FILE, status)
        entry.content = InlineContent(_settled(full)) if path == _CONTROL else LocalFile(full)
        entry.fuzzy = True
        parent, _, name = path.rpartition(b"/")
        relation = RELATION.fullmatch(name)
        if relation is not None and _DATABASES.fullmatch(parent):
            entry.cut = self._cut
            if self._inspect is not None:
                inspect = self._inspect
                entry.inspect = lambda offset, data: inspect(path, offset, data)
        self.files += 1
        self.bytes += status.st_size
        return entry

    def _names(self, full: bytes, *, top: bool) -> list[bytes]:
        try:
            return [name for name in os.listdir(full) if not _LEFT_OUT.fullmatch(name)]
        except FileNotFoundError as error:
            if top:
                raise _unreadable(full, error) from error
            return []  # a database that was dropped
        except OSError as error:
            raise _unreadable(full, error) from error

    def _stat(self, full: bytes) -> os.stat_result | None:
        try:
            return os.stat(full, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(full, error) from error


def _settled(full: bytes) -> bytes:
    """A small file as two readings in a row find it. Raises: SourceUnreadable."""
    before = None
    for _ in range(_READINGS):
        found = _read(full)
        if found == before:
            return found
        before = found
    raise SourceUnreadable("the server's control file does not hold still", which=os.fsdecode(full))


def _read(full: bytes) -> bytes:
    try:
        with open(full, "rb") as file:
            return file.read()
    except OSError as error:
        raise _unreadable(full, error) from error


def _without_unlogged(names: list[bytes]) -> list[bytes]:
    """A relation with an init fork is unlogged: of it, only that fork is kept."""
    unlogged = {found["number"] for name in names if (found := RELATION.fullmatch(name)) and found["fork"] == b"_init"}
    return [
        name
        for name in names
        if not ((found := RELATION.fullmatch(name)) and found["number"] in unlogged and found["fork"] != b"_init")
    ]


def _entry(path: bytes, kind: Kind, status: os.stat_result) -> Entry:
    return Entry(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_size if kind is Kind.FILE else 0,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    )


def _unreadable(full: bytes, error: OSError) -> SourceUnreadable:
    return SourceUnreadable(
        "the data directory cannot be read",
        which=os.fsdecode(full),
        found=error.strerror,
        hint="run as root on the server's host, or set read: stream",
    )
