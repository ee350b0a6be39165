"""What the sample stack holds, recorded by the demo itself: the comparison does not rely on the backup's own record."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass

from holdfast.model.facts import PostgresFacts, differences
from holdfast.postgres.facts import cluster_facts, databases
from holdfast.postgres.server import Server

FileRecord = tuple[int, int, int, int, int, str]


@dataclass(frozen=True)
class Record:
    """Every file with its mode, owner, size, time and digest, and every table with its rows and digest."""

    files: dict[str, FileRecord]
    database: PostgresFacts

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(record[3] for record in self.files.values())

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for database in self.database.databases for table in database.tables)

    @property
    def tables(self) -> int:
        """How many tables there are."""
        return sum(len(database.tables) for database in self.database.databases)


def take(directory: str, server: Server) -> Record:
    """Record what is there now."""
    with server.session() as session:
        names = databases(session)
    return Record(dict(_files(directory)), cluster_facts(server, names, digest=True))


def compare(wanted: Record, found: Record) -> list[str]:
    """Each difference in one line."""
    lines = [f"file {name}: missing" for name in sorted(set(wanted.files) - set(found.files))]
    lines += [f"file {name}: not there before" for name in sorted(set(found.files) - set(wanted.files))]
    lines += [
        f"file {name}: wanted {record}, found {found.files[name]}"
        for name, record in sorted(wanted.files.items())
        if name in found.files and found.files[name] != record
    ]
    return lines + differences(wanted.database, found.database)


def _files(directory: str) -> list[tuple[str, FileRecord]]:
    records = []
    for parent, folders, files in os.walk(directory):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            status = os.lstat(path)
            regular = stat.S_ISREG(status.st_mode)
            size = status.st_size if regular else 0
            record = (status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, _digest(path, status))
            records.append((os.path.relpath(path, directory), record))
    return records


def _digest(path: str, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
