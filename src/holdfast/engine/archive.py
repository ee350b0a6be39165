"""A volume read over the Engine's archive API, where its mountpoint cannot be read: a remote or rootless engine.

Rules upheld here:
- The container that mounts the volume is created, never started (`engine.helper`).
- The archive is read twice: once for which files are hard links of each other, which a tar tells only at the second
  name, once for the data. A file's content is read as it passes: nothing is staged.
- An archive without its end was cut off, and is an error.
- What this way cannot see (holes, most extended attributes, inode numbers) is noted in the snapshot.

Source: Engine API, "Get an archive of a filesystem resource in a container"; POSIX pax format.
"""

from __future__ import annotations

import os
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import IO, cast

import requests
import urllib3

from holdfast.engine.client import Engine, unavailable
from holdfast.engine.connection import get_stream
from holdfast.engine.helper import MOUNT, helper_container
from holdfast.engine.volumes import Volume
from holdfast.errors import SourceUnreadable
from holdfast.model.entry import ByteStream, Entry, Kind

_END = bytes(1024)
_PIECE = 1 << 20
_KINDS = {
    tarfile.DIRTYPE: Kind.DIR,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.FIFOTYPE: Kind.FIFO,
    tarfile.CHRTYPE: Kind.CHARDEV,
    tarfile.BLKTYPE: Kind.BLOCKDEV,
}
_NOTE = "read over the Engine's API: holes were read as zeros; ACLs, user attributes and sockets are not captured"


class ArchiveTree:
    """Captures a volume through a container of `engine` that is never started: a Source."""

    def __init__(self, engine: Engine, volume: Volume, *, now: Callable[[], int] = time.time_ns) -> None:
        self._engine, self._volume, self._now = engine, volume, now

    @property
    def label(self) -> str:
        """What it is, for people and for grouping."""
        return f"volume:{self._volume.name}"

    @property
    def notes(self) -> Sequence[str]:
        """What this way of reading cannot capture."""
        return (_NOTE,)

    def facts(self) -> Mapping[str, object]:
        """How it was read."""
        return {"read": "archive"}

    def entries(self) -> Iterator[Entry]:
        """The root, then everything below it. Raises: SourceUnreadable, EngineUnavailable, EngineRefused."""
        with helper_container(self._engine, self._volume) as container:
            links: Counter[str] = Counter()
            with self._archive(container) as archive:
                links.update(member.linkname for member in archive if member.islnk())
            inodes = {_relative(name): number for number, name in enumerate(links, 1)}
            counts = {_relative(name): count + 1 for name, count in links.items()}
            with self._archive(container) as archive:
                for member in archive:
                    yield self._entry(archive, member, inodes, counts)

    def holds_anything(self) -> bool:
        """Whether there is more than its root. Raises: as `entries`."""
        with helper_container(self._engine, self._volume) as container, self._archive(container) as archive:
            return any(_relative(member.name) not in (b"", b"lost+found") for member in archive)

    def _entry(
        self,
        archive: tarfile.TarFile,
        member: tarfile.TarInfo,
        inodes: Mapping[bytes, int],
        counts: Mapping[bytes, int],
    ) -> Entry:
        path = _relative(member.name)
        target = _relative(member.linkname) if member.islnk() else path
        kind = _KINDS.get(member.type, Kind.FILE)
        is_file = kind is Kind.FILE
        return Entry(
            path,
            kind,
            member.mode & 0o7777,
            member.uid,
            member.gid,
            member.size if is_file else 0,
            _mtime(member),
            self._now(),  # no ctime comes with it: never taken for unchanged
            inodes.get(target, 0) if is_file else 0,
            1 if is_file and target in inodes else 0,
            counts.get(target, 1) if is_file else 1,
            os.makedev(member.devmajor, member.devminor) if kind in (Kind.CHARDEV, Kind.BLOCKDEV) else 0,
            os.fsencode(member.linkname) if kind is Kind.SYMLINK else b"",
            _xattrs(member),
            _Member(archive, member, self.label) if is_file else None,
        )

    @contextmanager
    def _archive(self, container: str) -> Iterator[tarfile.TarFile]:
        with self._engine.asking("cannot read the volume", self._volume.name):
            response = get_stream(self._engine, f"containers/{container}/archive", {"path": f"{MOUNT}/.".encode()})
        with closing(response):
            source = _Watched(response, self._engine.url, self._volume.name)
            try:
                with tarfile.open(
                    fileobj=cast("IO[bytes]", source),
                    mode="r|",
                    bufsize=_PIECE,
                    encoding="utf-8",
                    errors="surrogateescape",
                ) as archive:
                    yield archive
            except tarfile.TarError as error:
                raise _cut(self._volume.name, str(error)) from error
            source.require_end()


class _Watched:
    """The bytes of the answer, of which the last ones are remembered: an archive ends in two empty blocks."""

    def __init__(self, response: requests.Response, url: str, volume: str) -> None:
        self._raw, self._url, self._volume = response.raw, url, volume
        self._tail = b""

    def read(self, size: int = -1, /) -> bytes:
        try:
            piece: bytes = self._raw.read(size if size > 0 else None)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unavailable(self._url, error) from error
        self._tail = (self._tail + piece[-len(_END) :])[-len(_END) :]
        return piece

    def require_end(self) -> None:
        while self.read(_PIECE):
            continue
        if self._tail != _END:
            raise _cut(self._volume, "no end-of-archive mark")


class _Member:
    """A file's content, which is read while the archive stands at it."""

    def __init__(self, archive: tarfile.TarFile, member: tarfile.TarInfo, label: str) -> None:
        self._archive, self._member, self._label = archive, member, label

    def open(self) -> ByteStream:
        """The bytes; a hard link's are those of the first name, which the writer has already."""
        data = self._archive.extractfile(self._member)
        if data is None or self._member.islnk():
            raise SourceUnreadable("a hard link came before its file", which=f"{self._label}: {self._member.name}")
        return _Exact(data, self._member, self._label)


class _Exact:
    """A stream that has as many bytes as the header said."""

    def __init__(self, data: IO[bytes], member: tarfile.TarInfo, label: str) -> None:
        self._data, self._member, self._label = data, member, label
        self._seen = 0

    def read(self, size: int, /) -> bytes:
        try:
            piece = self._data.read(size)
        except tarfile.TarError as error:
            raise _cut(self._label, str(error)) from error
        self._seen += len(piece)
        if not piece and self._seen != self._member.size:
            raise _cut(self._label, f"{self._seen} of {self._member.size} bytes of {self._member.name}")
        return piece

    def close(self) -> None:
        """Nothing to stop: the archive goes on to the next member by itself."""


def _relative(name: str) -> bytes:
    """`./a/b` or `volume/a/b` as the path below the volume's root; the root itself is empty."""
    raw = os.fsencode(name).strip(b"/")
    if raw in (b".", b""):
        return b""
    return raw.removeprefix(b"./")


def _mtime(member: tarfile.TarInfo) -> int:
    exact = member.pax_headers.get("mtime")
    return int(Decimal(exact) * 1_000_000_000) if exact else int(member.mtime) * 1_000_000_000


def _xattrs(member: tarfile.TarInfo) -> tuple[tuple[bytes, bytes], ...]:
    prefix = "SCHILY.xattr."
    found = {key.removeprefix(prefix): value for key, value in member.pax_headers.items() if key.startswith(prefix)}
    return tuple((name.encode(), os.fsencode(value)) for name, value in sorted(found.items()))


def _cut(volume: str, how: str) -> SourceUnreadable:
    return SourceUnreadable("the engine's archive of the volume was cut off", which=volume, found=how, hint="try again")
