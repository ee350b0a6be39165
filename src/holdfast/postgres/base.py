"""A base backup over the replication protocol: pg_basebackup's tar stream as a source, without staging.

Rules upheld here:
- The snapshot holds the files as a tree, so that unchanged ones deduplicate and a plain `restic restore` gives a data
  directory. Relation files get small blobs: a page that changed costs `CUT` bytes, not a megabyte.
- Every file is checked against the server's manifest before anything is committed.
- With a WAL archive the stream leaves the WAL out, else it brings what the backup itself needs.

Source: PostgreSQL manual, pg_basebackup; "Making a Base Backup".
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from google_crc32c import extend as crc32c

from holdfast.errors import BaseBackupFailed, CommandFailed, HoldfastError, WalNotReady
from holdfast.model.base import BuildsOn
from holdfast.model.entry import ByteStream, Entry, InlineContent, Kind
from holdfast.postgres.backup_manifest import NAME, Arrived, check_arrived, read_manifest
from holdfast.postgres.server import Server
from holdfast.postgres.taken import CUT, Taken, Wanted, base_facts, begin, end, leave_canary
from holdfast.postgres.tarstream import TarStream

RELATION = re.compile(rb"(?:base/\d+|global|pg_tblspc/\d+/[^/]+/\d+)/\d+(?:_[a-z]+)?(?:\.\d+)?")
_KINDS = {tarfile.DIRTYPE: Kind.DIR, tarfile.SYMTYPE: Kind.SYMLINK}


@dataclass(frozen=True, slots=True)
class Before:
    """The base backup that an incremental one builds on, and its own list of files: `backup_manifest`."""

    builds_on: BuildsOn
    manifest: bytes


class PostgresBase:
    """One cluster, its data directory streamed: a Source whose entries come unsorted.

    Args:
        server: where it runs.
        wanted: what it is called, and what is recorded.
        archived: whether its WAL is archived; else the backup brings its own.
        before: what it builds on, for an incremental backup. Where the server cannot, a full one is taken.
        full_because: why it is not incremental, where that was asked for.
    """

    unordered = True

    def __init__(
        self, server: Server, wanted: Wanted, *, archived: bool, before: Before | None = None, full_because: str = ""
    ) -> None:
        self._server, self._wanted, self._archived, self._before = server, wanted, archived, before
        self._taken: Taken | None = None
        self._notes: list[str] = [_full(full_because)] if full_because else []

    @property
    def label(self) -> str:
        """What it is, for people and for grouping."""
        return self._wanted.label

    @property
    def notes(self) -> Sequence[str]:
        """What a recovery should know."""
        return self._notes

    def entries(self) -> Iterator[Entry]:
        """The files as the server sends them, the root first. Raises: BaseBackupFailed, DatabaseUnavailable, ….

        After the last file everything is checked, and the canary written.
        """
        taken = self._taken = self._look()
        yield from self._stream(taken)
        if taken.manifest is None:
            raise BaseBackupFailed("the base backup has no manifest", which=self.label)
        check_arrived(taken.manifest, taken.files, self.label)
        if taken.manifest.system not in (None, taken.cluster.system):
            raise BaseBackupFailed("the base backup is of another cluster", which=self.label)
        with self._server.session() as session:
            end(session, taken)
        if taken.cluster.standby:
            self._notes.append("taken from a standby: it has no canary, a drill recovers to the backup's end")
        leave_canary(self._server, taken, self._wanted)

    def facts(self) -> Mapping[str, object]:
        """Identity, place in the WAL, settings, and what a drill compares."""
        assert self._taken is not None  # noqa: S101  facts are asked for after the entries
        facts = base_facts(self._server, self._taken, self._wanted, "stream")
        builds_on = self._before.builds_on if self._before else None
        facts = msgspec.structs.replace(facts, wal_included=not self._archived, builds_on=builds_on)
        built: dict[str, object] = msgspec.to_builtins(facts)
        return built

    def _look(self) -> Taken:
        with self._server.session() as session:
            taken = begin(session, self.label)
        if taken.cluster.tablespaces:
            raise WalNotReady(
                "a base backup over the stream cannot hold tablespaces",
                which=self.label,
                wanted="a server without extra tablespaces",
                found=", ".join(space.location for space in taken.cluster.tablespaces),
                hint="use method: dump, or read the data directory directly on its host",
            )
        return taken

    def _stream(self, taken: Taken) -> Iterator[Entry]:
        """The members; a server that refuses an incremental backup, which shows before the first one, is asked anew."""
        begun = False
        try:
            for entry in self._attempt(taken):
                begun = True
                yield entry
        except HoldfastError as error:
            if begun or self._before is None:
                raise
            self._before = None
            self._notes.append(_full(f"an incremental one was refused: {error.found or error}"))
            yield from self._attempt(taken)

    def _attempt(self, taken: Taken) -> Iterator[Entry]:
        wal = "none" if self._archived else "fetch"
        arguments = ["-D", "-", "--format=tar", f"--wal-method={wal}", "--checkpoint=fast", "--no-estimate-size"]
        arguments.append(f"--label=holdfast {self.label}")
        which = f"pg_basebackup of {self._server.where}"
        with self._beside(arguments) as more:
            try:
                stream = _Output(self._server.stream("pg_basebackup", more), which)
            except CommandFailed as error:
                raise _failed(which, error) from error
            try:
                yield from self._members(TarStream(stream, which), taken)
            finally:
                stream.close()

    @contextmanager
    def _beside(self, arguments: list[str]) -> Iterator[list[str]]:
        """The arguments; for an incremental backup the list of files lies where pg_basebackup runs, for so long."""
        if self._before is None:
            yield arguments
            return
        with self._server.beside(self._before.manifest) as path:
            yield [*arguments, f"--incremental={path}"]

    def _members(self, tar: TarStream, taken: Taken) -> Iterator[Entry]:
        root = False
        for member in tar.members():
            path = _path(member)
            if not root:
                root = True
                yield Entry(b"", Kind.DIR, 0o700, member.uid, member.gid, mtime_ns=int(member.mtime) * 10**9)
            if not path:
                continue
            entry = _entry(path, member)
            if path == NAME:
                entry.content = InlineContent(_whole(tar, member.size))
                taken.manifest = read_manifest(entry.content.data, self.label)
            elif entry.kind is Kind.FILE:
                entry.content = _Content(tar, path, taken.files)
            yield entry


def _full(reason: str) -> str:
    return f"a full base backup: {reason}"


class _Output:
    """pg_basebackup's output; its failure is the backup's, whoever reads."""

    def __init__(self, stream: ByteStream, which: str) -> None:
        self._stream, self._which = stream, which

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except CommandFailed as error:
            raise _failed(self._which, error) from error

    def close(self) -> None:
        self._stream.close()


def _failed(which: str, error: CommandFailed) -> BaseBackupFailed:
    return BaseBackupFailed(
        "the base backup failed",
        which=which,
        wanted="exit status 0",
        found=error.found,
        hint="nothing was stored; the role needs REPLICATION, and pg_hba.conf a line for replication",
    )


class _Content:
    """A member's content, read while the stream stands at it; what arrived is written down."""

    def __init__(self, tar: TarStream, path: bytes, files: dict[bytes, Arrived]) -> None:
        self._tar, self._path, self._files = tar, path, files
        self._size, self._crc = 0, 0

    def open(self) -> ByteStream:
        """The bytes, once."""
        return self

    def read(self, size: int, /) -> bytes:
        piece = self._tar.read(size)
        if piece:
            self._size += len(piece)
            self._crc = crc32c(self._crc, piece)
        else:
            self._files[self._path] = Arrived(self._size, self._crc)
        return piece

    def close(self) -> None:
        """The stream goes on to the next member by itself."""


def _entry(path: bytes, member: tarfile.TarInfo) -> Entry:
    kind = _KINDS.get(member.type, Kind.FILE)
    mtime = int(member.mtime) * 1_000_000_000
    return Entry(
        path,
        kind,
        member.mode & 0o7777,
        member.uid,
        member.gid,
        member.size if kind is Kind.FILE else 0,
        mtime,
        mtime,
        link_target=member.linkname.encode("utf-8", "surrogateescape") if kind is Kind.SYMLINK else b"",
        cut=CUT if RELATION.fullmatch(path) else 0,
    )


def _path(member: tarfile.TarInfo) -> bytes:
    path = member.name.encode("utf-8", "surrogateescape").strip(b"/")
    path = path.removeprefix(b"./")
    return b"" if path == b"." else path


def _whole(tar: TarStream, size: int) -> bytes:
    parts = []
    while piece := tar.read(size):
        parts.append(piece)
    return b"".join(parts)
