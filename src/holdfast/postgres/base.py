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
import secrets
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import msgspec
from google_crc32c import extend as crc32c

from holdfast.errors import BaseBackupFailed, CommandFailed, WalNotReady
from holdfast.model.base import BaseFacts
from holdfast.model.entry import ByteStream, Entry, InlineContent, Kind
from holdfast.postgres.backup_manifest import NAME, Arrived, Manifest, check_arrived, read_manifest
from holdfast.postgres.canary import Recorded, record_canary
from holdfast.postgres.cluster import NEEDED_SETTINGS, Cluster, describe_cluster
from holdfast.postgres.facts import roles
from holdfast.postgres.server import Server
from holdfast.postgres.session import Session
from holdfast.postgres.tarstream import TarStream

CUT = 32 << 10
"""Bytes of one blob of a relation file: four pages. Measured: with 1.5 % of all pages changed at random 6 % of the
blobs change; at 64 KiB it is 11 %, at 16 KiB 3 % with twice as many blobs to keep track of."""

RELATION = re.compile(rb"(?:base/\d+|global|pg_tblspc/\d+/[^/]+/\d+)/\d+(?:_[a-z]+)?(?:\.\d+)?")
_KINDS = {tarfile.DIRTYPE: Kind.DIR, tarfile.SYMTYPE: Kind.SYMLINK}
Compare = Literal["digest", "rows", "none"]


@dataclass(slots=True)
class Taken:
    """What became of one backup, filled while it runs."""

    cluster: Cluster
    started: datetime
    stopped: datetime | None = None
    manifest: Manifest | None = None
    files: dict[bytes, Arrived] = field(default_factory=dict)
    recorded: Recorded | None = None
    roles: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()


class PostgresBase:
    """One cluster, its data directory streamed: a Source whose entries come unsorted.

    Args:
        server: where it runs.
        label: `postgres:shop-db`.
        archived: whether its WAL is archived; else the backup brings its own.
        subpath: where PGDATA lies below its volume, for the restore.
        only: the databases whose tables are recorded.
        compare: what is recorded of each table.
    """

    unordered = True

    def __init__(
        self,
        server: Server,
        *,
        label: str,
        archived: bool,
        subpath: str = "",
        only: Literal["all"] | Sequence[str] = "all",
        compare: Compare = "digest",
    ) -> None:
        self._server, self._label, self._archived, self._subpath = server, label, archived, subpath
        self._only, self._compare = only, compare
        self._taken: Taken | None = None
        self._notes: list[str] = []

    @property
    def label(self) -> str:
        """What it is, for people and for grouping."""
        return self._label

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
            raise BaseBackupFailed("the base backup has no manifest", which=self._label)
        check_arrived(taken.manifest, taken.files, self._label)
        if taken.manifest.system not in (None, taken.cluster.system):
            raise BaseBackupFailed("the base backup is of another cluster", which=self._label)
        self._after(taken)

    def facts(self) -> Mapping[str, object]:
        """Identity, place in the WAL, settings, and what a drill compares."""
        taken = self._taken
        assert taken is not None  # noqa: S101  facts are asked for after the entries
        built: dict[str, object] = msgspec.to_builtins(base_facts(self._server, taken, self._subpath, "stream"))
        built["wal_included"] = not self._archived
        return built

    def _look(self) -> Taken:
        with self._server.session() as session:
            cluster = describe_cluster(session)
            started = _now(session)
            taken = Taken(cluster, started, roles=roles(session))
        refuse_unfit(cluster, self._label)
        if cluster.tablespaces:
            raise WalNotReady(
                "a base backup over the stream cannot hold tablespaces",
                which=self._label,
                wanted="a server without extra tablespaces",
                found=", ".join(space.location for space in cluster.tablespaces),
                hint="use method: dump, or read the data directory directly on its host",
            )
        return taken

    def _stream(self, taken: Taken) -> Iterator[Entry]:
        wal = "none" if self._archived else "fetch"
        arguments = ["-D", "-", "--format=tar", f"--wal-method={wal}", "--checkpoint=fast", "--no-estimate-size"]
        label = f"--label=holdfast {self._label}"
        which = f"pg_basebackup of {self._server.where}"
        try:
            stream = _Output(self._server.stream("pg_basebackup", [*arguments, label]), which)
        except CommandFailed as error:
            raise _failed(which, error) from error
        try:
            yield from self._members(TarStream(stream, which), taken)
        finally:
            stream.close()

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
                taken.manifest = read_manifest(entry.content.data, self._label)
            elif entry.kind is Kind.FILE:
                entry.content = _Content(tar, path, taken.files)
            yield entry

    def _after(self, taken: Taken) -> None:
        with self._server.session() as session:
            taken.stopped = _now(session)
            taken.extensions = _extensions(session)
        if taken.cluster.standby:
            self._notes.append("taken from a standby: it has no canary, a drill recovers to the backup's end")
            return
        name = f"holdfast-{secrets.token_hex(8)}"
        taken.recorded = record_canary(self._server, name, only=self._only, compare=self._compare)


def refuse_unfit(cluster: Cluster, label: str) -> None:
    """Refuse a server from which no base backup can be taken. Raises: WalNotReady with what to change."""
    if cluster.settings.get("wal_level") == "minimal":
        raise WalNotReady(
            "the server writes too little WAL for a base backup",
            which=label,
            wanted="wal_level = replica",
            found="wal_level = minimal",
            hint="ALTER SYSTEM SET wal_level = 'replica'; then restart the server (max_wal_senders must not be 0)",
        )


def base_facts(server: Server, taken: Taken, subpath: str, how: str) -> BaseFacts:
    """The facts of a finished backup."""
    cluster, manifest, recorded = taken.cluster, taken.manifest, taken.recorded
    assert manifest is not None and taken.stopped is not None  # noqa: S101, PT018  the backup is finished
    wanted = (*NEEDED_SETTINGS, "wal_level", "shared_preload_libraries", "config_file", "hba_file", "server_encoding")
    return BaseFacts(
        version=cluster.version,
        system=cluster.system,
        timeline=manifest.timeline,
        start=str(manifest.start),
        stop=str(manifest.stop),
        started=taken.started,
        stopped=taken.stopped,
        segment_size=cluster.segment_size,
        checksums=cluster.checksums,
        directory=cluster.directory,
        subpath=subpath,
        how=how,
        size=sum(file.size for file in taken.files.values()),
        files=len(taken.files),
        image=server.image,
        user=server.user,
        settings={name: cluster.settings[name] for name in wanted if name in cluster.settings},
        tablespaces=cluster.tablespaces,
        extensions=taken.extensions,
        roles=taken.roles,
        databases=recorded.databases if recorded else (),
        changing=recorded.changing if recorded else (),
        canary=recorded.canary if recorded else None,
    )


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


def _now(session: Session) -> datetime:
    return datetime.fromisoformat(session.query("SELECT clock_timestamp() AS now")[0]["now"]).astimezone(UTC)


def _extensions(session: Session) -> tuple[str, ...]:
    rows = session.query("SELECT name FROM pg_available_extensions WHERE installed_version IS NOT NULL ORDER BY 1")
    return tuple(str(row["name"]) for row in rows)
