"""The spool: a folder in which finished WAL waits to be shipped.

Rules upheld here:
- Only files whose names are WAL's are ever looked at, read or removed.
- A file is removed only by its exact name, after the archive confirmed it, and if it is still what was shipped.
- The cluster that a spool belongs to is written into it: WAL of another one is refused, whatever its name.
- One process at a time works on a spool; a lock that the kernel holds goes with its process, however that ends.
- What archive_command left unfinished when it was killed is swept once nobody can be writing it any more.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from holdfast.errors import WalNotReady
from holdfast.model.wal import WalKind, WalName, parse_wal_name
from holdfast.store.durable import UNFINISHED, sync_directory, write_unfinished

OWNER = "holdfast-cluster"
"""The file that names the spool's cluster by its system identifier."""


LOCK = "holdfast-lock"
"""The file whose lock the process holds that works on the spool; it says who that is."""

UNFINISHED_SECONDS = 3600.0
"""A segment is copied in seconds: what is older was left behind."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One file in the spool."""

    name: WalName
    path: str
    size: int
    modified: datetime
    inode: int


class Spool:
    """The folder at `path`, which exists."""

    def __init__(self, path: str) -> None:
        self.path = path

    def waiting(self) -> list[Waiting]:
        """What waits, histories first, then in order of names. Raises: WalNotReady when the folder cannot be read."""
        found = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    name = parse_wal_name(entry.name)
                    if name is not None and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        modified = datetime.fromtimestamp(status.st_mtime, UTC)
                        found.append(Waiting(name, entry.path, status.st_size, modified, status.st_ino))
        except OSError as error:
            raise WalNotReady(
                "the spool cannot be read",
                which=self.path,
                found=error.strerror,
                hint="holdfast wal setup makes it; check that its disk is mounted",
            ) from error
        return sorted(found, key=lambda file: (file.name.kind is not WalKind.HISTORY, file.name.text))

    def remove(self, file: Waiting) -> None:
        """Remove a file that was shipped, unless another took its place meanwhile."""
        try:
            if os.lstat(file.path).st_ino == file.inode:
                os.unlink(file.path)
        except FileNotFoundError:
            return

    def discard_unallocated(self, segment_size: int) -> None:
        """Remove partial segments whose allocation broke off on a full disk: nothing was written to them yet.

        pg_receivewal fills a segment with zeros before it writes to it, and refuses one of another size for ever.
        """
        for file in self.waiting():
            if file.name.kind is WalKind.PARTIAL and file.size not in (0, segment_size):
                with open(file.path, "rb") as content:
                    empty = not content.read().strip(b"\0")
                if empty:
                    self.remove(file)

    def begin_at(self, segment: str) -> None:
        """Have a receiver begin at this segment: it goes on at the newest file that it finds, an empty one too.

        Source: pg_receivewal.c, FindStreamingStart. Raises: WalNotReady.
        """
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(os.path.join(self.path, f"{segment}.partial"), flags, 0o600))
            sync_directory(self.path)
        except OSError as error:
            raise WalNotReady("the spool cannot be written", which=self.path, found=error.strerror) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who works on it, for the time of the block. Raises: WalNotReady naming who else does."""
        path = os.path.join(self.path, LOCK)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise WalNotReady(
                "the spool cannot be written", which=self.path, found=error.strerror, hint="holdfast wal setup --apply"
            ) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                found = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise WalNotReady(
                    "another process works on this spool",
                    which=self.path,
                    wanted="one holdfast wal run at a time",
                    found=found or "a process that has not said its name yet",
                    hint="stop it first; a spool belongs to one source of one host",
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def sweep(self, now: float) -> list[str]:
        """Remove what a killed archive_command left unfinished (`.NAME.PID`) and what we did; the names.

        Only what is older than an hour at `now` (seconds since the Unix epoch): what is newer may be at work. The
        server archives the segment again by itself, for its command did not succeed.
        """
        swept = []
        try:
            with os.scandir(self.path) as entries:
                left = [one for one in entries if _is_unfinished(one.name) and one.is_file(follow_symlinks=False)]
        except OSError:
            return []  # `waiting` tells why it cannot be read
        for entry in left:
            try:
                if entry.stat(follow_symlinks=False).st_mtime < now - UNFINISHED_SECONDS:
                    os.unlink(entry.path)
                    swept.append(entry.name)
            except (FileNotFoundError, PermissionError):
                continue  # its writer removed it meanwhile, or the spool cannot be written: shipping tells that
        return swept

    def owner(self) -> str | None:
        """The system identifier of the cluster that it belongs to; None for a new one."""
        try:
            with open(os.path.join(self.path, OWNER), encoding="ascii") as file:
                return file.read().strip() or None
        except FileNotFoundError:
            return None

    def claim(self, system: str) -> None:
        """Give a new spool to a cluster. Raises: WalNotReady when it is another's."""
        owner = self.owner()
        if owner is None:
            try:
                os.rename(write_unfinished(self.path, f"{system}\n".encode()), os.path.join(self.path, OWNER))
                sync_directory(self.path)
            except OSError as error:
                raise WalNotReady("the spool cannot be written", which=self.path, found=error.strerror) from error
        elif owner != system:
            raise WalNotReady(
                "the spool belongs to another cluster",
                which=self.path,
                wanted=f"system identifier {system}",
                found=owner,
                hint="a cluster that was made anew gets a new spool; ship what is left in the old one first",
            )

    def room(self) -> tuple[int, int]:
        """Bytes free and in all on the spool's filesystem."""
        try:
            status = os.statvfs(self.path)
        except OSError as error:
            hint = "holdfast wal setup" if error.errno == errno.ENOENT else None
            raise WalNotReady("the spool is not there", which=self.path, found=error.strerror, hint=hint) from error
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def _is_unfinished(name: str) -> bool:
    found = re.fullmatch(r"\.(.+)\.\d+", name)
    return name.startswith(UNFINISHED) or (found is not None and parse_wal_name(found[1]) is not None)
