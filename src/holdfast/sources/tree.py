"""A directory of this machine, read directly: a plain path, or a volume's mountpoint.

Rules upheld here:
- Entries come depth first, names in byte order; names are bytes all the way.
- Nothing is followed: a symlink is an entry of its own.
- What disappears between listing and looking is noted, not fatal; a root that cannot be read is fatal.
- Extended attributes of every namespace the reader may see are taken (ACLs and capabilities are among them).
- While something else is waited for it can look ahead: at names and metadata, never at contents.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from holdfast.errors import SourceNotFound, SourceUnreadable
from holdfast.model.entry import Entry, Kind, LocalFile

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARDEV,
    stat.S_IFBLK: Kind.BLOCKDEV,
}
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
_MOST_AHEAD = 1 << 15
"""Entries that are looked at ahead, at most: 20 MiB of them."""
_NO_XATTRS = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.EPERM})


class TreeSource:
    """Captures the tree under `root`. Its entries begin with the root itself (the empty path).

    Args:
        root: the directory.
        label: `path:/srv/www`, `volume:app-data`.
        exclude: patterns of what is left out: `*` within one name, `**` across directories; a pattern without a slash
            matches a name anywhere, one with a slash the whole path below the root.
    """

    def __init__(self, root: str | bytes | os.PathLike[str], *, label: str, exclude: Sequence[str] = ()) -> None:
        self.root = os.fsencode(root).rstrip(b"/") or b"/"
        self._label = label
        self._exclude = [(pattern, compile_pattern(pattern)) for pattern in exclude]
        self._notes: list[str] = []
        self._without_xattrs: set[int] = set()
        self._ahead: deque[Entry] = deque()
        self._rest: Iterator[Entry] | None = None

    @property
    def label(self) -> str:
        """What it is, for people and for grouping."""
        return self._label

    @property
    def notes(self) -> Sequence[str]:
        """What could not be captured, one line each."""
        return tuple(self._notes)

    def facts(self) -> Mapping[str, object]:
        """What a drill compares beside the tree itself: nothing."""
        return {"exclude": [pattern for pattern, _ in self._exclude]} if self._exclude else {}

    def look_ahead(self, waiting: Callable[[], bool]) -> None:
        """Look at the first entries now, as long as `waiting` says so; `entries` begins with them.

        Raises: as `entries`.
        """
        self._rest = self._rest or self._walk()
        while waiting() and len(self._ahead) < _MOST_AHEAD:
            entry = next(self._rest, None)
            if entry is None:
                return
            self._ahead.append(entry)

    def entries(self) -> Iterator[Entry]:
        """The root, then everything below it. Raises: SourceNotFound, SourceUnreadable."""
        ahead, rest = self._ahead, self._rest or self._walk()
        self._ahead, self._rest = deque(), None
        while ahead:
            yield ahead.popleft()
        yield from rest

    def _walk(self) -> Iterator[Entry]:
        yield self._root_entry()
        stack = [iter(self._list(b"", top=True))]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            entry = self._entry(*found)
            if entry is None:
                continue
            path, is_directory = entry.path, entry.kind is Kind.DIR
            yield entry
            if is_directory:
                stack.append(iter(self._list(path)))

    def _root_entry(self) -> Entry:
        try:
            status = os.stat(self.root)
        except FileNotFoundError as error:
            path = os.fsdecode(self.root)
            hint = f"ls -ld {shlex.quote(os.path.dirname(path))}"
            raise SourceNotFound("there is no such directory", which=path, hint=hint) from error
        except OSError as error:
            raise self._unreadable(self.root, error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise SourceNotFound("not a directory", which=os.fsdecode(self.root), wanted="a directory")
        return self._make(b"", self.root, status)

    def _list(self, below: bytes, *, top: bool = False) -> list[tuple[bytes, os.DirEntry[bytes]]]:
        path = os.path.join(self.root, below) if below else self.root
        try:
            with os.scandir(path) as scan:
                found = [(below + b"/" + item.name if below else item.name, item) for item in scan]
        except OSError as error:
            if top:
                raise self._unreadable(path, error) from error
            # A directory that is there and cannot be listed would be an empty one in the backup.
            if error.errno not in _GONE:
                raise self._unreadable(path, error) from error
            self._notes.append(f"{os.fsdecode(below)}: vanished while it was read")
            return []
        if self._exclude:
            found = [pair for pair in found if not self._excluded(pair[0])]
        found.sort(key=_name)
        return found

    def _entry(self, path: bytes, item: os.DirEntry[bytes]) -> Entry | None:
        try:
            return self._make(path, item.path, item.stat(follow_symlinks=False))
        except OSError as error:
            if error.errno not in _GONE:
                raise self._unreadable(item.path, error) from error
            self._notes.append(f"{os.fsdecode(path)}: vanished while it was read")
            return None

    def _make(self, path: bytes, full: bytes, status: os.stat_result) -> Entry:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        return Entry(
            path,
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            status.st_dev,
            status.st_nlink,
            status.st_rdev,
            os.readlink(full) if kind is Kind.SYMLINK else b"",
            () if status.st_dev in self._without_xattrs else self._xattrs(path, full, status.st_dev),
            LocalFile(full) if kind is Kind.FILE else None,
        )

    def _xattrs(self, path: bytes, full: bytes, device: int) -> tuple[tuple[bytes, bytes], ...]:
        try:
            # The root may be given as a symlink to a directory; everything below is looked at, not through.
            follow = not path
            names = os.listxattr(full, follow_symlinks=follow)
            return tuple(self._readable_xattrs(path, full, names, follow)) if names else ()
        except OSError as error:
            if error.errno in _NO_XATTRS:
                self._without_xattrs.add(device)
                return ()
            raise

    def _readable_xattrs(
        self, path: bytes, full: bytes, names: list[str], follow: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        for name in sorted(names):
            raw = os.fsencode(name)
            try:
                raw.decode()
                yield raw, os.getxattr(full, name, follow_symlinks=follow)
            except UnicodeDecodeError:
                self._notes.append(f"{os.fsdecode(path)}: attribute {raw!r} left out: its name is not UTF-8")
            except OSError as error:
                if error.errno != errno.ENODATA:
                    raise

    def _excluded(self, path: bytes) -> bool:
        text = os.fsdecode(path)
        name = text.rpartition("/")[2]
        return any(regex.fullmatch(text if "/" in pattern else name) for pattern, regex in self._exclude)

    def _unreadable(self, path: bytes, error: OSError) -> SourceUnreadable:
        return SourceUnreadable(
            f"cannot read {self._label}",
            which=os.fsdecode(path),
            found=error.strerror or str(error),
            hint=f"run as a user who may read it; it is owned by {_owner(path)}",
        )


def _owner(path: bytes) -> str:
    try:
        status = Path(os.fsdecode(path)).lstat()
    except OSError:
        return "an unknown user"
    return f"uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o}"


def _name(pair: tuple[bytes, os.DirEntry[bytes]]) -> bytes:
    return pair[1].name


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """What a pattern matches as a whole: a name, or a path when the pattern has a slash."""
    parts = re.split(r"(\*\*/?|\*|\?)", pattern.strip("/") if "/" in pattern.strip("/") else pattern)
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts), re.DOTALL)
