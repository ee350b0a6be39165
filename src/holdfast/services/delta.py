"""Delta restore: bring a directory that holds an older, partial or damaged copy to a snapshot's state, in place.

Rules upheld here:
- Blocks that are right are read and hashed, and stay; only the others are fetched. Nothing is believed by size or time.
- What the snapshot has not is removed. Types that differ are replaced. Hard links are made as they were, and a file
  with names outside the target is replaced, not written (`delta_target`).
- Nothing is followed: a symlink in the target is an entry like any other, and those of the snapshot are made last.
- It may be killed at any moment and run again; what was right by then stays. While it runs the directory is neither the
  old nor the new: where that matters, restore beside and swap.
- Where the repository is known to lack something, what is there stays as it is; a block that turns out damaged leaves
  its place as it was. Each such file is named.
- A dry run does all the reading, and writes nothing.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable

import msgspec

from holdfast.errors import RestoreError, TargetNotEmpty
from holdfast.model.ids import SnapshotId
from holdfast.model.snapshot import Snapshot
from holdfast.repository.reader import descend
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node, link_key, link_target
from holdfast.services.delta_acting import Acting, DeltaProgress
from holdfast.services.delta_contents import WAVE, Contents
from holdfast.services.delta_target import look, make_usable
from holdfast.services.extraction import OTHER_KINDS, make_other, safe_children, write_error
from holdfast.services.restore import open_snapshot, reading


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


OnProgress = Callable[[DeltaProgress], None]


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

    Raises: TargetNotEmpty for a directory that holds something else, RestoreError also for one that a PostgreSQL server
        uses, TargetFull, UnsafeName,
        CorruptObject (root tree), the store's errors. What was done by then stays: run it again.
    """
    path = os.path.realpath(os.fsencode(target))
    started = time.monotonic()
    with reading(repository, repository.refresh):
        data = open_snapshot(repository, snapshot)
        do = Acting(path, dry=dry_run)
        try:
            _Delta(repository, do, on_progress).go(data.tree, data.root, anything=anything)
        except OSError as error:
            raise write_error(error, path) from error
    done = do.done
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
        notes=tuple(do.metadata.notes),
        lines=tuple(done.lines),
    )


class _Delta:
    """One run: the tree's structure from here, contents by `Contents`, and all that is changed through `Acting`."""

    def __init__(self, repository: Repository, do: Acting, on_progress: OnProgress | None = None) -> None:
        self._repository, self._do = repository, do
        self._contents = Contents(repository, do)
        self._on_progress = on_progress or (lambda _: None)
        self._groups: dict[tuple[int, int], list[tuple[bytes, Node]]] = {}
        self._directories: list[tuple[bytes, Node]] = []
        self._others: list[tuple[bytes, Node]] = []

    def go(self, tree: str, root: Node | None, *, anything: bool) -> None:
        """Do it all. Raises: OSError, and what `restore_delta` raises."""
        self._prepare_target(tree, anything=anything)
        try:
            self._bring_contents(tree)
        finally:
            self._contents.close()
        for group in self._groups.values():
            self._link(group)
        for path, node in self._others:
            self._make_other(path, node)
        for path, node in reversed(self._directories):
            self._do.settle(path, node)
        if root is not None:
            self._do.settle(self._do.target, root)
        self._on_progress(self._do.done)

    def _bring_contents(self, tree: str) -> None:
        for path, node in descend(tree, self._do.target, lambda subtree, path, _: self._enter(subtree, path)):
            self._take(path, node)
            if self._contents.waiting >= WAVE:
                self._write()
        self._write()

    def _write(self) -> None:
        self._contents.write()
        self._on_progress(self._do.done)

    # --- the structure ------------------------------------------------------------------------------------------------

    def _prepare_target(self, tree: str, *, anything: bool) -> None:
        status = look(self._do.target)
        if status is None:
            self._do.act(lambda: os.makedirs(self._do.target, 0o700))
            self._do.absent.add(self._do.target)
            return
        if not anything and look(os.path.join(self._do.target, b"postmaster.pid")) is not None:
            raise RestoreError(
                "a PostgreSQL server uses the target, or was killed in it",
                which=os.fsdecode(self._do.target),
                found="postmaster.pid",
                hint="stop the server, remove a postmaster.pid that is left over; to go on all the same: --replace",
            )
        there = set(os.listdir(self._do.target)) - {b"lost+found"}  # a path that is no directory is an OSError here
        nodes = safe_children(self._repository, tree, b"", lambda _path, _why: None)
        if there and nodes is not None and not anything and there.isdisjoint(path for path, _ in nodes):
            raise TargetNotEmpty(
                "the target has nothing in common with the snapshot, all of it would be removed",
                which=os.fsdecode(self._do.target),
                wanted="an older, partial or damaged copy of it",
                found=f"{len(there)} entries, among them {os.fsdecode(sorted(there)[0])}",
                hint="look with --dry-run; to go on all the same: --replace",
            )

    def _enter(self, tree: str, parent: bytes) -> list[tuple[bytes, Node]]:
        """What the snapshot has in a directory; what else is there is removed. Of a damaged tree nothing is known."""
        children = safe_children(self._repository, tree, parent, self._do.damage)
        if children is None:
            return []
        if parent not in self._do.absent:
            wanted = {path for path, _ in children}
            for name in os.listdir(parent):
                path = os.path.join(parent, name)
                if path not in wanted and not (parent == self._do.target and name == b"lost+found"):
                    self._do.remove(path)
        return children

    def _take(self, path: bytes, node: Node) -> None:
        if node.type == "dir":
            self._take_directory(path, node)
        elif node.type == "file":
            self._do.done.files += 1
            link = link_key(node)
            if link is not None:
                self._groups.setdefault(link, []).append((path, node))
            else:
                self._contents.take(path, node)
        else:
            self._others.append((path, node))

    def _take_directory(self, path: bytes, node: Node) -> None:
        self._do.done.directories += 1
        self._directories.append((path, node))
        status = self._do.look(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            if not self._do.dry:
                make_usable(path, status)
            return
        if status is not None:
            self._do.remove(path)
        self._do.tell("make", path)
        self._do.act(lambda: os.mkdir(path, 0o700))
        self._do.absent.add(path)

    # --- links, devices, metadata -------------------------------------------------------------------------------------

    def _link(self, group: list[tuple[bytes, Node]]) -> None:
        """One file of several names: one of them is brought right, the others are linked to it."""
        there = {path: status for path, _ in group if (status := self._do.look(path)) and stat.S_ISREG(status.st_mode)}
        inodes = [(status.st_dev, status.st_ino) for status in there.values()]
        path, node = max(group, key=lambda each: inodes.count(_identity(there.get(each[0]))))
        names = inodes.count(_identity(there.get(path)))
        self._contents.take(path, node, names=names)
        self._write()
        master = self._do.look(path)
        for other, _ in group:
            if other == path:
                continue
            status = self._do.look(other)
            if status is not None and master is not None and os.path.samestat(status, master):
                continue
            if master is None and not self._do.dry:
                self._do.damage(other, f"a hard link to {os.fsdecode(path)}, which is damaged")
                continue
            if status is not None:
                self._do.remove(other)
            self._do.tell("link", other)
            self._do.act(lambda other=other: os.link(path, other, follow_symlinks=False))  # type: ignore[misc]

    def _make_other(self, path: bytes, node: Node) -> None:
        self._do.done.others += 1
        status = self._do.look(path)
        if status is not None and not _same(path, node, status):
            self._do.remove(path)
            status = None
        if status is None:
            self._do.tell("make", path)
            if self._do.dry:
                return
            try:
                if not make_other(path, node):
                    self._do.damage(path, f"of a type that is not known: {node.type}")
                    return
            except PermissionError as error:
                self._do.damage(path, f"a {node.type} was not made: {error.strerror}")
                return
        self._do.settle(path, node)


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
