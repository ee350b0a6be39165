"""Delta restore: bring a directory that holds an older, partial or damaged copy to a snapshot's state, in place.

Rules upheld here:
- Blocks that are right are read and hashed, and stay; only the others are fetched. Nothing is believed by size or time.
- What the snapshot has not is removed. Types that differ are replaced. Hard links are made as they were, and a file
  with names outside the target is replaced, not written (`delta_target`).
- Nothing is followed: a symlink in the target is an entry like any other, and those of the snapshot are made last.
- It may be killed at any moment and run again; what was right by then stays. While it runs the directory is neither the
  old nor the new: where that matters, restore beside and swap.
- Where the repository is damaged, what is there stays as it is, and is named.
- A dry run does all the reading, and writes nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from holdfast.errors import CorruptObject, HoldfastError, TargetNotEmpty
from holdfast.model.ids import BlobId, SnapshotId
from holdfast.model.snapshot import Snapshot
from holdfast.repository.extract import read_blobs
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node, link_target
from holdfast.services.delta_target import (
    copy_beside,
    entries_below,
    look,
    make_file,
    make_usable,
    mount_points,
    open_file,
    remove,
    settle,
)
from holdfast.services.extraction import OTHER_KINDS, is_zeros, make_other, safe_children, write_at, write_error
from holdfast.services.metadata import MetadataWriter
from holdfast.services.restore import open_snapshot, reading

_WAVE = 2_000
"""Files that are looked at together: bounds memory, and still reads each pack about once."""

_THREADS = 3
_LINES = 2_000


class DeltaReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a delta restore did, or with `dry_run` would do. Bytes are of file contents.

    `changed` counts files of which content was written, `settled` entries whose metadata differed, `removed` entries
    that the snapshot has not or has as another type. `lines` say what happened to which entry, the first 2,000.
    """

    snapshot: SnapshotId
    source: str
    target: str
    dry_run: bool
    files: int
    directories: int
    others: int
    changed: int
    settled: int
    removed: int
    bytes_kept: int
    bytes_fetched: int
    seconds: float
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(slots=True)
class DeltaProgress:
    """How far it is: entries in the snapshot so far, and what was done for them."""

    files: int = 0
    directories: int = 0
    others: int = 0
    changed: int = 0
    settled: int = 0
    removed: int = 0
    bytes_kept: int = 0
    bytes_fetched: int = 0
    damaged: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


OnProgress = Callable[[DeltaProgress], None]


@dataclass(slots=True, eq=False)
class _File:
    """One file on its way: `old` is where its content is now, `new` where it is written; equal when in place."""

    path: bytes
    node: Node
    old: bytes | None
    new: bytes
    old_size: int = 0
    wrong: list[tuple[BlobId, int, int]] = field(default_factory=list)
    kept: int = 0
    damaged: HoldfastError | None = None


def restore_delta(
    repository: Repository,
    snapshot: Snapshot,
    target: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    anything: bool = False,
    on_progress: OnProgress | None = None,
) -> DeltaReport:
    """Bring a directory to a snapshot's state in place.

    Args:
        repository: an open repository.
        snapshot: what to restore.
        target: a directory with an older, partial or damaged copy; it is made when it is missing.
        dry_run: read and compare, change nothing.
        anything: go on although the directory has nothing in common with the snapshot.
        on_progress: told now and then how far it is.

    Raises: TargetNotEmpty for a directory that holds something else, TargetFull, RestoreError, UnsafeName,
        CorruptObject (root tree), the store's errors. What was done by then stays: run it again.
    """
    path = os.path.realpath(os.fsencode(target))
    started = time.monotonic()
    with reading(repository):
        repository.refresh()
        data = open_snapshot(repository, snapshot)
        run = _Delta(repository, path, dry_run=dry_run, on_progress=on_progress)
        try:
            run.go(data.tree, data.root, anything=anything)
        except OSError as error:
            raise write_error(error, path) from error
    done = run.done
    return DeltaReport(
        snapshot=snapshot.id,
        source=snapshot.source,
        target=os.fsdecode(path),
        dry_run=dry_run,
        files=done.files,
        directories=done.directories,
        others=done.others,
        changed=done.changed,
        settled=done.settled,
        removed=done.removed,
        bytes_kept=done.bytes_kept,
        bytes_fetched=done.bytes_fetched,
        seconds=time.monotonic() - started,
        damaged=tuple(done.damaged),
        notes=tuple(run.metadata.notes),
        lines=tuple(done.lines),
    )


class _Delta:
    """One run below `target`. `absent` paths are those that a dry run would have made."""

    def __init__(
        self, repository: Repository, target: bytes, *, dry_run: bool, on_progress: OnProgress | None = None
    ) -> None:
        self.done = DeltaProgress()
        self.metadata = MetadataWriter()
        self._repository, self._target, self._dry = repository, target, dry_run
        self._on_progress = on_progress or (lambda _: None)
        self._mounts = mount_points()
        self._waiting: list[_File] = []
        self._groups: dict[tuple[int, int], list[tuple[bytes, Node]]] = {}
        self._directories: list[tuple[bytes, Node]] = []
        self._others: list[tuple[bytes, Node]] = []
        self._absent: set[bytes] = set()

    def go(self, tree: str, root: Node | None, *, anything: bool) -> None:
        """Do it all. Raises: OSError, and what `restore_delta` raises."""
        self._prepare_target(tree, anything=anything)
        for path, node in self._walk(tree):
            self._take(path, node)
            if len(self._waiting) >= _WAVE:
                self._write_wave()
        self._write_wave()
        for group in self._groups.values():
            self._link(group)
        for path, node in self._others:
            self._make_other(path, node)
        for path, node in reversed(self._directories):
            self._settle(path, node)
        if root is not None:
            self._settle(self._target, root)
        self._on_progress(self.done)

    # --- the structure ------------------------------------------------------------------------------------------------

    def _prepare_target(self, tree: str, *, anything: bool) -> None:
        status = look(self._target)
        if status is None:
            self._act(lambda: os.makedirs(self._target, 0o700))
            self._absent.add(self._target)
            return
        there = set(os.listdir(self._target)) - {b"lost+found"}  # a path that is no directory is an OSError here
        nodes = safe_children(self._repository, tree, b"", lambda _path, _why: None) or []
        if there and nodes and not anything and there.isdisjoint(path for path, _ in nodes):
            raise TargetNotEmpty(
                "the target has nothing in common with the snapshot, all of it would be removed",
                which=os.fsdecode(self._target),
                wanted="an older, partial or damaged copy of it",
                found=f"{len(there)} entries, among them {os.fsdecode(sorted(there)[0])}",
                hint="look with --dry-run; to go on all the same: --replace",
            )

    def _walk(self, tree: str) -> Iterator[tuple[bytes, Node]]:
        stack = [iter(self._enter(tree, self._target))]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
                continue
            yield found
            path, node = found
            if node.type == "dir" and node.subtree:
                stack.append(iter(self._enter(node.subtree, path)))

    def _enter(self, tree: str, parent: bytes) -> list[tuple[bytes, Node]]:
        """What the snapshot has in a directory; what else is there is removed. Of a damaged tree nothing is known."""
        children = safe_children(self._repository, tree, parent, self._damage)
        if children is None:
            return []
        if parent not in self._absent:
            wanted = {path for path, _ in children}
            for name in os.listdir(parent):
                path = os.path.join(parent, name)
                if path not in wanted and not (parent == self._target and name == b"lost+found"):
                    self._remove(path)
        return children

    def _take(self, path: bytes, node: Node) -> None:
        if node.type == "dir":
            self._take_directory(path, node)
        elif node.type == "file":
            self.done.files += 1
            if node.links > 1 and node.inode:
                self._groups.setdefault((node.device_id, node.inode), []).append((path, node))
            else:
                self._waiting.append(self._file(path, node, names=1))
        else:
            self._others.append((path, node))

    def _take_directory(self, path: bytes, node: Node) -> None:
        self.done.directories += 1
        self._directories.append((path, node))
        status = self._look(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            if not self._dry:
                make_usable(path, status)
            return
        if status is not None:
            self._remove(path)
        self._tell("make", path)
        self._act(lambda: os.mkdir(path, 0o700))
        self._absent.add(path)

    def _file(self, path: bytes, node: Node, *, names: int) -> _File:
        """How a file is brought right; `names` is how many of its links may be in the target."""
        status = self._look(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            self._remove(path)
            status = None
        if status is None:
            return _File(path, node, None, path)
        new = path if status.st_nlink == names else _beside(path)
        return _File(path, node, path, new, old_size=status.st_size)

    # --- contents -----------------------------------------------------------------------------------------------------

    def _write_wave(self) -> None:
        files, self._waiting = self._waiting, []
        with ThreadPoolExecutor(_THREADS, "delta") as pool:
            list(pool.map(self._compare, files))
        wanted: dict[BlobId, list[tuple[_File, int]]] = {}
        for file in files:
            self._begin(file)
            for blob, offset, _ in file.wrong:
                wanted.setdefault(blob, []).append((file, offset))
        if not self._dry:
            read_blobs(
                self._repository,
                wanted,
                lambda blob, data: self._deliver(wanted[blob], data),
                lambda blob, error: self._fail(wanted[blob], error),
            )
        for file in files:
            self._finish(file)
        self._on_progress(self.done)

    def _compare(self, file: _File) -> None:
        """Find the blocks that are not right. From several threads, each with a file of its own."""
        fd = open_file(file.old, os.O_RDONLY) if file.old is not None else None
        try:
            offset = 0
            for text in file.node.blobs:
                blob = BlobId(bytes.fromhex(text))
                where = self._repository.index.find(BlobKind.DATA, blob)
                if where is None:
                    file.damaged = CorruptObject("a blob is missing from the index", which=text[:16])
                    return
                if fd is not None and _has(fd, blob, offset, where.size):
                    file.kept += where.size
                else:
                    file.wrong.append((blob, offset, where.size))
                offset += where.size
            if offset != file.node.size:
                file.damaged = CorruptObject("a file's size differs", wanted=str(file.node.size), found=str(offset))
        finally:
            if fd is not None:
                os.close(fd)

    def _begin(self, file: _File) -> None:
        self.done.bytes_kept += file.kept
        if file.damaged is not None:
            file.wrong.clear()
            return
        fetched = sum(size for _, _, size in file.wrong)
        if file.wrong or file.old is None or file.old_size != file.node.size or file.new != file.path:
            self.done.changed += 1
            of = "" if file.old is None else f" ({len(file.wrong)} of {len(file.node.blobs)} blocks)"
            self._tell("write", file.path, of)
        self.done.bytes_fetched += fetched
        if self._dry:
            return
        if file.old is None:
            os.close(make_file(file.new))
        elif file.new != file.old:
            copy_beside(file.old, file.new, file.node.size)

    def _deliver(self, targets: list[tuple[_File, int]], data: bytes) -> None:
        zeros = is_zeros(data)
        for file, offset in targets:
            # Beyond what was there the file is a hole already, if it has more blobs than this one.
            if zeros and offset >= file.old_size and len(file.node.blobs) > 1:
                continue
            fd = open_file(file.new, os.O_WRONLY)
            try:
                write_at(fd, data, offset)
            finally:
                os.close(fd)

    @staticmethod
    def _fail(targets: list[tuple[_File, int]], error: HoldfastError) -> None:
        for file, _ in targets:
            file.damaged = file.damaged or error

    def _finish(self, file: _File) -> None:
        if file.damaged is not None:
            if file.new != file.old and not self._dry and look(file.new) is not None:
                os.unlink(file.new)
            self._damage(file.path, str(file.damaged))
            return
        if not self._dry:
            fd = open_file(file.new, os.O_RDWR)
            try:
                if os.fstat(fd).st_size != file.node.size:
                    os.ftruncate(fd, file.node.size)
            finally:
                os.close(fd)
        self._settle(file.new if not self._dry else file.path, file.node)
        if file.new != file.path:
            self._act(lambda: os.rename(file.new, file.path))

    # --- links, devices, metadata -------------------------------------------------------------------------------------

    def _link(self, group: list[tuple[bytes, Node]]) -> None:
        """One file of several names: one of them is brought right, the others are linked to it."""
        there = {path: status for path, _ in group if (status := self._look(path)) and stat.S_ISREG(status.st_mode)}
        inodes = [(status.st_dev, status.st_ino) for status in there.values()]
        path, node = max(group, key=lambda each: inodes.count(_identity(there.get(each[0]))))
        names = inodes.count(_identity(there.get(path)))
        self._waiting.append(self._file(path, node, names=names))
        self._write_wave()
        master = self._look(path)
        for other, _ in group:
            if other == path:
                continue
            status = self._look(other)
            if status is not None and master is not None and os.path.samestat(status, master):
                continue
            if master is None and not self._dry:
                self._damage(other, f"a hard link to {os.fsdecode(path)}, which is damaged")
                continue
            if status is not None:
                self._remove(other)
            self._tell("link", other)
            self._act(lambda other=other: os.link(path, other, follow_symlinks=False))  # type: ignore[misc]

    def _make_other(self, path: bytes, node: Node) -> None:
        self.done.others += 1
        status = self._look(path)
        if status is not None and not _same(path, node, status):
            self._remove(path)
            status = None
        if status is None:
            self._tell("make", path)
            if self._dry:
                return
            try:
                if not make_other(path, node):
                    self._damage(path, f"of a type that is not known: {node.type}")
                    return
            except PermissionError as error:
                self._damage(path, f"a {node.type} was not made: {error.strerror}")
                return
        self._settle(path, node)

    def _settle(self, path: bytes, node: Node) -> None:
        if (self._dry and self._look(path) is None) or not settle(self.metadata, path, node, dry_run=self._dry):
            return
        self.done.settled += 1

    # --- acting -------------------------------------------------------------------------------------------------------

    def _look(self, path: bytes) -> os.stat_result | None:
        if self._dry and os.path.dirname(path) in self._absent:
            return None
        return look(path)

    def _remove(self, path: bytes) -> None:
        self._tell("remove", path)
        self.done.removed += sum(1 for _ in entries_below(path)) if self._dry else remove(path, self._mounts)

    def _act(self, work: Callable[[], object]) -> None:
        if not self._dry:
            work()

    def _tell(self, what: str, path: bytes, more: str = "") -> None:
        if len(self.done.lines) < _LINES:
            self.done.lines.append(f"{what} {os.fsdecode(os.path.relpath(path, self._target))}{more}")

    def _damage(self, path: bytes, why: str) -> None:
        self.done.damaged.append(f"{os.fsdecode(os.path.relpath(path, self._target))}: {why}")


def _has(fd: int, blob: BlobId, offset: int, size: int) -> bool:
    data = os.pread(fd, size, offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return len(data) == size and hashlib.sha256(data).digest() == blob


def _beside(path: bytes) -> bytes:
    return os.path.join(os.path.dirname(path), b".holdfast-delta-" + secrets.token_hex(8).encode())


def _identity(status: os.stat_result | None) -> tuple[int, int]:
    return (status.st_dev, status.st_ino) if status else (-1, -1)


def _same(path: bytes, node: Node, status: os.stat_result) -> bool:
    """Whether a link, device, FIFO or socket is the one that is wanted, and nobody else's too."""
    if status.st_nlink > 1:
        return False
    if node.type == "symlink":
        return stat.S_ISLNK(status.st_mode) and os.readlink(path) == link_target(node)
    if stat.S_IFMT(status.st_mode) != OTHER_KINDS.get(node.type):
        return False
    return node.type in ("fifo", "socket") or status.st_rdev == node.device
