"""Dumping a cluster: one archive per database under the very snapshot in which its rows were counted, and the globals.

Rules upheld here:
- A dump that is empty, is no dump, or whose program failed is DumpFailed, raised before anything is committed.
- A cluster that was pinned (`postgres.pinned`) is dumped as it was at that instant, however much later.
- Archives are uncompressed: the repository compresses, and unchanged tables deduplicate.
- Layout: `databases/NAME.dump` (percent-encoded name), `globals.sql` (roles with their passwords, tablespaces).

Source: PostgreSQL manual, pg_dump (`--snapshot`, custom format), pg_dumpall (`--globals-only`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal
from urllib.parse import quote, unquote

import msgspec

from holdfast.errors import CommandFailed, DumpFailed, SourceNotFound
from holdfast.model.entry import ByteStream, Entry, Kind
from holdfast.model.facts import DatabaseFacts, PostgresFacts
from holdfast.postgres.facts import databases, prepare, roles, table_facts
from holdfast.postgres.pinned import BEGIN, PinnedCluster
from holdfast.postgres.server import Server, dbname, server_version
from holdfast.postgres.session import Session

FOLDER = b"databases"
GLOBALS = b"globals.sql"
_SUFFIX = ".dump"
_MAGIC = b"PGDMP"
_GLOBALS_END = b"PostgreSQL database cluster dump complete"


class PostgresDump:
    """One cluster, dumped: a Source.

    Args:
        server: where it runs.
        label: `postgres:shop-db`.
        only: the databases to dump; `all` but the templates.
        digest: whether the contents of tables are digested, or only counted.
        pinned: the transactions to dump in; they were begun at an instant of the caller's. None for new ones, now.
        now: nanoseconds since the epoch, for the files' times.
    """

    def __init__(
        self,
        server: Server,
        *,
        label: str,
        only: Literal["all"] | Sequence[str] = "all",
        digest: bool = True,
        pinned: PinnedCluster | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._server, self._label, self._only, self._digest, self._now = server, label, only, digest, now
        self._pinned = pinned
        self._version = 0
        self._roles: tuple[str, ...] = ()
        self._facts: list[DatabaseFacts] = []

    @property
    def label(self) -> str:
        """What it is, for people and for grouping."""
        return self._label

    @property
    def notes(self) -> Sequence[str]:
        """A dump leaves nothing out in silence."""
        return ()

    def facts(self) -> Mapping[str, object]:
        """The row facts of every database, taken in the transaction of its dump."""
        instant = self._pinned.instant if self._pinned else None
        facts = PostgresFacts(
            lsn=instant.lsn if instant else None,
            instant=instant.time if instant else None,
            version=self._version,
            databases=tuple(self._facts),
            image=self._server.image,
            roles=self._roles,
            user=self._server.user,
        )
        built: dict[str, object] = msgspec.to_builtins(facts)
        return built

    def entries(self) -> Iterator[Entry]:
        """The archives, then the globals. Raises: DumpFailed, SourceNotFound, DatabaseUnavailable, DatabaseDenied."""
        names = self._names()
        yield self._folder(b"")
        yield self._folder(FOLDER)
        for path, name in sorted((file_name(name), name) for name in names):
            yield from self._database(path, name)
        globals_only = ("pg_dumpall", ["--globals-only", "--database", "template1"])
        yield self._file(GLOBALS, DumpOutput(self._server, *globals_only, begins=b"", ends=_GLOBALS_END))

    def _names(self) -> list[str]:
        with self._server.session() as session:
            self._version, self._roles = server_version(session), roles(session)
            return self._pinned.names if self._pinned else chosen_databases(session, self._only, self._label)

    def _database(self, path: bytes, name: str) -> Iterator[Entry]:
        with self._transaction(name) as (session, snapshot):
            prepare(session)
            self._facts.append(DatabaseFacts(name=name, tables=table_facts(session, digest=self._digest)))
            arguments = ["--format=custom", "--compress=0", f"--snapshot={snapshot}", "--dbname", dbname(name)]
            # Whoever takes the entry reads its content to the end before asking for the next: the transaction is open.
            yield self._file(path, DumpOutput(self._server, "pg_dump", arguments, begins=_MAGIC, ends=b""))

    @contextmanager
    def _transaction(self, name: str) -> Iterator[tuple[Session, str]]:
        if self._pinned is not None:
            with self._pinned.transaction(name) as pinned:
                yield pinned
            return
        with self._server.session(name) as session:
            session.execute(BEGIN)
            yield session, session.query("SELECT pg_export_snapshot() AS id")[0]["id"]

    def _folder(self, path: bytes) -> Entry:
        now = self._now()
        return Entry(path, Kind.DIR, 0o700, mtime_ns=now, ctime_ns=now)

    def _file(self, path: bytes, content: DumpOutput) -> Entry:
        now = self._now()
        return Entry(path, Kind.FILE, 0o600, mtime_ns=now, ctime_ns=now, content=content)


def chosen_databases(session: Session, only: Literal["all"] | Sequence[str], label: str) -> list[str]:
    """The databases that are meant. Raises: SourceNotFound for one that is not there."""
    present = databases(session)
    names = present if only == "all" else list(only)
    if missing := sorted(set(names) - set(present)):
        raise SourceNotFound(
            "there is no such database",
            which=f"{missing[0]} of {label}",
            wanted=f"one of {', '.join(present)}",
            hint="psql --list shows them",
        )
    return names


class DumpOutput:
    """Content that a dump program writes: it begins and ends as it should, or it is DumpFailed."""

    def __init__(self, server: Server, program: str, arguments: Sequence[str], *, begins: bytes, ends: bytes) -> None:
        self._server, self._program, self._arguments = server, program, tuple(arguments)
        self._begins, self._ends = begins, ends

    def open(self) -> ByteStream:
        """Start the program."""
        which = f"{self._program} of {self._server.where}"
        try:
            stream = self._server.stream(self._program, self._arguments)
        except CommandFailed as error:
            raise _failed(which, error) from error
        return _CheckedStream(stream, which, self._begins, self._ends)


class _CheckedStream:
    def __init__(self, stream: ByteStream, which: str, begins: bytes, ends: bytes) -> None:
        self._stream, self._which, self._begins, self._ends = stream, which, begins, ends
        self._head, self._tail = b"", b""

    def read(self, size: int, /) -> bytes:
        try:
            piece = self._stream.read(size)
        except CommandFailed as error:
            raise _failed(self._which, error) from error
        if len(self._head) < len(self._begins):
            self._head += piece[: len(self._begins)]
        self._tail = (self._tail + piece)[-256:] if self._ends or not self._tail else self._tail
        if not piece:
            self._check_whole()
        return piece

    def close(self) -> None:
        self._stream.close()

    def _check_whole(self) -> None:
        if not self._tail:
            raise DumpFailed("the dump is empty", which=self._which, wanted="a dump", found="0 bytes")
        if not self._head.startswith(self._begins) or self._ends not in self._tail:
            raise DumpFailed("what was dumped is no whole dump", which=self._which, found=repr(self._tail[-40:]))


def _failed(which: str, error: CommandFailed) -> DumpFailed:
    hint = "nothing was stored; the server's log tells more"
    return DumpFailed("the dump failed", which=which, wanted="exit status 0", found=error.found, hint=hint)


def file_name(database: str) -> bytes:
    """The path of a database's archive."""
    return FOLDER + b"/" + quote(database, safe=" ").encode() + _SUFFIX.encode()


def database_name(file: bytes) -> str:
    """The database of an archive's file name, without the folder."""
    return unquote(file.decode().removesuffix(_SUFFIX))
