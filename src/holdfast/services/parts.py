"""Parts of a snapshot: listed, read, restored.

Rules upheld here:
- A path is below the source's own root; a pattern is matched as for `exclude`: without a slash a name anywhere, with
  one the whole path. What it matches comes with everything below, and with the directories that lead to it.
- A part goes to a new place, or, into a directory that holds data, beside what it replaces: that is kept until the new
  is whole and compared. What fails, or is killed, is undone (`services.rebuild_journal`).
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from holdfast.engine.journal import Undo
from holdfast.errors import RestoreError, SnapshotNotFound
from holdfast.model.snapshot import Snapshot
from holdfast.repository.content import find_node, stream_content
from holdfast.repository.gofields import unquote
from holdfast.repository.reader import walk
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node
from holdfast.services.placement import Placement
from holdfast.services.rebuild_journal import Steps, undone_unless_whole
from holdfast.services.restore import OnProgress, RestoreReport, open_snapshot, restore_directory
from holdfast.sources.frozen import sync_filesystem
from holdfast.sources.tree import compile_pattern

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from holdfast.engine.client import Engine
    from holdfast.engine.volumes import Volume


def entries_of(
    repository: Repository, snapshot: Snapshot, path: str, *, recursive: bool
) -> Iterator[tuple[bytes, Node]]:
    """The entries in a directory of a snapshot, or the one file, with their paths below the source's root.

    Raises: SnapshotNotFound, CorruptObject.
    """
    data = open_snapshot(repository, snapshot)
    at, tree = _clean(path), data.tree
    if at:
        node = find_node(repository.reader, data.tree, at, hint=_look(snapshot))
        if node.type != "dir":
            yield at, node
            return
        tree = node.subtree
    if recursive:
        yield from walk(repository.reader, tree, at)
        return
    for node in repository.reader.load_tree(tree) if tree else ():
        name = unquote(node.name)
        yield (at + b"/" + name if at else name), node


def content_of(repository: Repository, snapshot: Snapshot, path: str) -> Iterator[bytes]:
    """A file's content. Raises: SnapshotNotFound, RestoreError when it is no file, CorruptObject."""
    data = open_snapshot(repository, snapshot)
    node = find_node(repository.reader, data.tree, _clean(path), hint=_look(snapshot))
    if node.type != "file":
        raise RestoreError("this is not a regular file", which=path, found=node.type, hint=_look(snapshot, path))
    return stream_content(repository.reader, node)


def chooser(patterns: Sequence[str]) -> tuple[list[str], _Chosen]:
    """What patterns choose; a list that gets each pattern that matched something."""
    matched: list[str] = []
    return matched, _Chosen(patterns, matched)


class _Chosen:
    """Whether an entry is chosen: it, or a directory above it, matches a pattern."""

    def __init__(self, patterns: Sequence[str], matched: list[str]) -> None:
        self._patterns = [(pattern, compile_pattern(pattern)) for pattern in patterns]
        self._matched = matched

    def __call__(self, path: bytes) -> bool:
        """`path` is below the source's root."""
        parts = os.fsdecode(path).split("/")
        return any(self._matches("/".join(parts[: count + 1]), parts[count]) for count in range(len(parts)))

    def _matches(self, path: str, name: str) -> bool:
        for pattern, regex in self._patterns:
            if regex.fullmatch(path if "/" in pattern.strip("/") else name):
                if pattern not in self._matched:
                    self._matched.append(pattern)
                return True
        return False


def restore_parts(
    repository: Repository,
    snapshot: Snapshot,
    target: str,
    patterns: Sequence[str],
    *,
    in_place: bool = False,
    on_progress: OnProgress | None = None,
) -> RestoreReport:
    """Restore what patterns choose into an empty or missing directory, or with `in_place` into one that holds data.

    In place each chosen entry takes the place of the one that is there, which is put back when anything fails.

    Raises: SnapshotNotFound when nothing matches, TargetNotEmpty, RestoreError, CorruptObject, the store's errors.
    """
    target = os.path.abspath(target)
    matched, chosen = chooser(patterns)

    def restored(into: str) -> RestoreReport:
        report = restore_directory(repository, snapshot, into, on_progress=on_progress, chosen=chosen)
        if missing := [pattern for pattern in patterns if pattern not in matched]:
            shutil.rmtree(into)
            _require_all(snapshot, missing)
        return report

    if not in_place:
        return restored(target)
    with undone_unless_whole(None, snapshot.stack or "restore", log.warning) as steps:
        beside = Placement(target).new
        steps.intend(Undo(kind="tree", name=target, new=beside))
        report = restored(beside)
        _put(steps, beside, target, report.damaged)
    return msgspec.structs.replace(report, target=target)


def restore_parts_over_api(
    repository: Repository, snapshot: Snapshot, engine: Engine, volume: Volume, patterns: Sequence[str]
) -> RestoreReport:
    """The same into a volume that was just made and cannot be written from here. Raises: as `restore_parts`."""
    from holdfast.engine.volumes import remove_volume
    from holdfast.services.archive_restore import restore_new_volume

    matched, chosen = chooser(patterns)
    report = restore_new_volume(repository, snapshot, engine, volume, chosen=chosen)
    try:
        _require_all(snapshot, [pattern for pattern in patterns if pattern not in matched])
    except SnapshotNotFound:
        remove_volume(engine, volume.name)
        raise
    return report


def _require_all(snapshot: Snapshot, missing: Sequence[str]) -> None:
    if missing:
        which = ", ".join(missing)
        raise SnapshotNotFound("nothing in the snapshot matches", which=which, hint=_look(snapshot, "-R"))


def _put(steps: Steps, beside: str, target: str, damaged: Sequence[str]) -> None:
    """Move each top entry that was restored into its place. Raises: RestoreError."""
    if damaged:
        raise RestoreError("the chosen part is not whole, nothing was replaced", which=target, found=damaged[0])
    sync_filesystem(os.fsencode(beside))
    mark = f".holdfast-old-{secrets.token_hex(4)}"
    moves = [
        Undo(kind="swap", name=place, new=new, old=place + mark, was=os.path.lexists(place))
        for new, place in _tops(beside, target)
    ]
    steps.intend(*moves)
    try:
        for move in moves:
            if move.was:
                os.rename(move.name, move.old)
            os.rename(move.new, move.name)
    except OSError as error:
        raise RestoreError("cannot put a part in its place", which=target, found=error.strerror) from error


def _tops(beside: str, target: str) -> Iterator[tuple[str, str]]:
    """What to move: the deepest directories that are there on both sides are only entered, not replaced."""
    for entry in sorted(os.scandir(beside), key=lambda found: found.name):
        place = os.path.join(target, entry.name)
        led = os.path.join(beside, entry.name)
        if entry.is_dir(follow_symlinks=False) and os.path.isdir(place) and not os.path.islink(place):
            yield from _tops(led, place)
        else:
            yield led, place


def _look(snapshot: Snapshot, *more: str) -> str:
    return shlex.join(["holdfast", "ls", snapshot.short_id, *more])


def _clean(path: str) -> bytes:
    return os.fsencode(path.strip("/"))
