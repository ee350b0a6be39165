"""A store in a local directory: keys are paths, so a repository lies there exactly as restic lays it out.

Rules upheld here:
- Objects appear whole and durable, or not at all (`store.durable` has the steps).
- Only `create()` makes the base directory: a disk that is not mounted is an error, never a new empty repository.
- Folders are 0700 and files 0600, as the content is nobody else's.
- Symbolic links below the base are not objects and are never followed by a listing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.errors import (
    ObjectExists,
    ObjectNotFound,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from holdfast.store import durable
from holdfast.store.base import Bytes, ObjectInfo, check_key, check_range, folder

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO})


class DirectoryStore:
    """Objects as files below `path`."""

    atomic_if_absent = True
    """Whether of two writers of one key exactly one wins: a link that exists is not made again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._base = os.path.abspath(path)
        # Folders that this process has made durable and swept once. Only ever grows or shrinks by whole names, so that
        # threads need no lock: at worst two do the same work.
        self._ready: set[str] = set()

    @property
    def location(self) -> str:
        """The absolute path."""
        return self._base

    def create(self) -> None:
        """See `Store.create`; parents are made as well."""
        with self._errors("cannot create the directory", self._base):
            existing = self._base
            while not os.path.isdir(existing) and os.path.dirname(existing) != existing:
                existing = os.path.dirname(existing)
            durable.make_directory(existing, self._base)

    def put(self, key: str, data: Bytes, *, if_absent: bool = False) -> None:
        """See `Store.put`."""
        path = self._path(key)
        with self._errors("cannot store an object", path):
            if if_absent and self._holds(path, data):
                return
            try:
                durable.publish(self._write(path, data), path, replace=not if_absent)
            except FileExistsError:
                if not (if_absent and self._holds(path, data)):
                    raise

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `Store.get`."""
        check_range(offset, length)
        path = self._path(key)
        with self._errors("cannot read an object", path, absent=True):
            return durable.read_range(path, offset, length)

    def get_into(self, key: str, buffer: bytearray | memoryview, *, offset: int = 0) -> int:
        """See `FillsBuffers.get_into`."""
        check_range(offset, None)
        path = self._path(key)
        with self._errors("cannot read an object", path, absent=True):
            return durable.read_into(path, buffer, offset)

    def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        path = self._path(key)
        with self._errors("cannot read an object", path, absent=True):
            status = os.stat(path, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
            return ObjectInfo(key, status.st_size, status.st_mtime)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `Store.list`."""
        return self._walk(folder(prefix))

    def delete(self, key: str) -> None:
        """See `Store.delete`; durable as well, for what is deleted next may rely on it."""
        path = self._path(key)
        try:
            with self._errors("cannot delete an object", path, absent=True):
                os.unlink(path)
                durable.sync_directory(os.path.dirname(path))
        except ObjectNotFound:
            return

    def close(self) -> None:
        """Nothing to give back."""

    def _path(self, key: str) -> str:
        if check_key(key).rpartition("/")[2].startswith(durable.UNFINISHED):
            raise ValueError(f"not a valid object key: {key!r}: such names are kept for unfinished files")
        return os.path.join(self._base, key)

    def _write(self, path: str, data: Bytes) -> str:
        directory = os.path.dirname(path)
        self._prepare(directory)
        try:
            return durable.write_unfinished(directory, data)
        except FileNotFoundError:
            # Someone removed the folder since it was last written to: once more from the start.
            self._ready.discard(directory)
            self._prepare(directory)
            return durable.write_unfinished(directory, data)

    def _prepare(self, directory: str) -> None:
        if directory not in self._ready:
            durable.make_directory(self._base, directory)
            durable.remove_stale(directory)
            self._ready.add(directory)

    def _holds(self, path: str, data: Bytes) -> bool:
        """Whether exactly these bytes are there, for good. Raises: ObjectExists when others are."""
        try:
            found, wanted = os.lstat(path).st_size, memoryview(data).nbytes
            if found != wanted or durable.read_range(path, 0, None) != data:
                raise ObjectExists(
                    "a different object has this key",
                    which=path,
                    wanted=f"these {wanted} bytes",
                    found=f"{found} other bytes",
                )
        except (FileNotFoundError, NotADirectoryError):
            return False
        # Whoever wrote it may have died before it was durable, and our success promises that it is.
        durable.make_directory(self._base, os.path.dirname(path))
        durable.sync_file(path)
        return True

    def _walk(self, start: str) -> Iterator[ObjectInfo]:
        with self._errors("cannot list the directory", self._base):
            os.listdir(self._base)  # below, a missing folder is an empty one; a missing base is an error
        pending = [start]
        while pending:
            directory = os.path.join(self._base, pending.pop())
            with self._errors("cannot list the directory", directory):
                objects, folders = _scan(directory, directory.removeprefix(self._base).lstrip("/"))
            pending.extend(folders)
            yield from objects

    @contextmanager
    def _errors(self, what: str, path: str, *, absent: bool = False) -> Iterator[None]:
        """Translate OSError; with `absent` a missing file is ObjectNotFound."""
        try:
            yield
        except OSError as error:
            raise self._translate(what, path, error, absent) from error

    def _translate(self, what: str, path: str, error: OSError, absent: bool) -> StoreError:
        found = error.strerror or str(error)
        if error.errno in _FULL:
            return StoreFull(
                what, which=path, found=found, hint=f"free space or raise the quota there: df -h {self._base}"
            )
        if error.errno in _DENIED:
            hint = f"see who may use it, and how it is mounted: ls -ld {self._base}; findmnt --target {self._base}"
            return StoreDenied(what, which=path, found=found, hint=hint)
        if error.errno in _NO_FILE and os.path.exists(self._base) and not os.path.isdir(self._base):
            return StoreError(what, which=self._base, wanted="a directory", found="something else")
        if error.errno == errno.ENOENT and not os.path.exists(self._base):
            hint = f"mount it if it is a disk; for a new repository: holdfast init --repo {self._base}"
            return StoreMissing("the directory of the store does not exist", which=self._base, hint=hint)
        if error.errno in _NO_FILE and absent:
            return ObjectNotFound("no such object", which=path)
        if error.errno in _NO_FILE or isinstance(error, FileExistsError):
            return StoreError(what, which=path, found=found)
        return StoreUnavailable(what, which=path, found=found, hint="look for errors of the disk: dmesg | tail")


def _scan(directory: str, start: str) -> tuple[list[ObjectInfo], list[str]]:
    """The objects and the folders in one directory whose key is `start`; nothing where it is not there."""
    objects: list[ObjectInfo] = []
    folders: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                key = f"{start}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{key}/")
                elif entry.is_file(follow_symlinks=False):
                    if (info := _info(entry, key)) is not None:
                        objects.append(info)
                elif entry.is_symlink() and entry.is_dir():
                    _refuse_link(entry.path)
    except (FileNotFoundError, NotADirectoryError):
        return objects, folders
    return objects, folders


def _info(entry: os.DirEntry[str], key: str) -> ObjectInfo | None:
    if entry.name.startswith(durable.UNFINISHED):
        return None
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None  # deleted since the folder was read
    return ObjectInfo(key, status.st_size, status.st_mtime)


def _refuse_link(path: str) -> None:
    """A folder that hides behind a link would be missing from a listing without a word, and its objects seem lost."""
    target = os.path.realpath(path)
    raise StoreError(
        "a symbolic link stands where a folder of the store should be",
        which=path,
        found=f"a link to {target}",
        hint=f"mount the folder there instead: rm {path} && mkdir {path} && mount --bind {target} {path}",
    )
