"""Restore: a snapshot's data into a directory.

Rules upheld here:
- Restoring never makes it worse: a target that holds anything is refused; replacing is asked for by name, builds the
  new tree beside the old one and swaps them only when it is whole.
- A restore that could not be finished leaves the target as empty as it was.
- Damaged objects are named and skipped; the report says so and the caller must not call it a success.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from holdfast.errors import CorruptObject, ObjectNotFound, RestoreError, StoreDenied, TargetNotEmpty
from holdfast.model import manifest as layout
from holdfast.model.ids import SnapshotId
from holdfast.model.manifest import Manifest
from holdfast.model.snapshot import Snapshot
from holdfast.repository.content import stream_content
from holdfast.repository.gofields import unquote
from holdfast.repository.repository import Repository
from holdfast.repository.tree import Node
from holdfast.services.extraction import Chosen, Extraction
from holdfast.services.extraction_contents import Extracted

log = logging.getLogger(__name__)

OnProgress = Callable[[Extracted], None]

_WITHOUT_LOCK = "reading without a lock, these credentials may not write one: %s"

INCREMENTAL = (
    "an incremental base backup: by itself it is no data directory; holdfast restore STACK --source NAME --latest "
    "combines it with those below it, as pg_combinebackup does"
)
"""Told of a part of a chain that was restored by itself."""


class RestoreReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore did. `damaged` names what is lost, with the object that is to blame; empty when all is back."""

    snapshot: SnapshotId
    source: str
    target: str
    files: int
    directories: int
    others: int
    bytes: int
    seconds: float
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class SnapshotData(msgspec.Struct, frozen=True):
    """Where a snapshot's data is: its tree, the node that describes the tree's root, and the manifest if it has one."""

    tree: str
    root: Node | None
    manifest: Manifest | None


def open_snapshot(repository: Repository, snapshot: Snapshot) -> SnapshotData:
    """Find the data in a snapshot: below `data` in one of Holdfast's, the whole tree in one that restic made.

    Raises: CorruptObject when its root tree cannot be read.
    """
    nodes = {unquote(node.name): node for node in repository.reader.load_tree(snapshot.tree)}
    data, folder = nodes.get(layout.DATA), nodes.get(layout.FOLDER)
    if data is None or folder is None or not data.subtree or not folder.subtree:
        return SnapshotData(snapshot.tree, None, None)
    return SnapshotData(data.subtree, data, _load_manifest(repository, folder))


def _load_manifest(repository: Repository, folder: Node) -> Manifest | None:
    try:
        for node in repository.reader.load_tree(folder.subtree):
            if unquote(node.name) == layout.NAME:
                return msgspec.json.decode(b"".join(stream_content(repository.reader, node)), type=Manifest)
    except (msgspec.DecodeError, CorruptObject, ObjectNotFound) as error:
        # The manifest serves comparison, not recovery: the data is restored without it.
        log.warning("a snapshot's manifest is damaged: %s", error)
    return None


@contextmanager
def reading(repository: Repository, prepare: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold a shared lock while reading, so that nobody prunes meanwhile. Credentials that may only read go without.

    `prepare` is done while the lock settles; without it the index is loaded.
    """
    with ExitStack() as stack:
        lock = None
        try:
            lock = stack.enter_context(repository.lock(settled=False))
        except StoreDenied as error:
            log.warning(_WITHOUT_LOCK, error)
        (prepare or (lambda: repository.index))()
        try:
            if lock is not None:
                lock.settle()
        except StoreDenied as error:  # a stale lock is in the way, and may not be removed
            log.warning(_WITHOUT_LOCK, error)
        yield


def restore_directory(
    repository: Repository,
    snapshot: Snapshot,
    target: str | os.PathLike[str],
    *,
    replace: bool = False,
    on_progress: OnProgress | None = None,
    chosen: Chosen | None = None,
) -> RestoreReport:
    """Restore a snapshot's data into a directory, which is made when it is missing.

    Args:
        repository: an open repository.
        snapshot: what to restore.
        target: an empty or missing directory; with `replace` one that holds data.
        replace: build the new tree beside the old one, then swap; the old one is removed last.
        on_progress: told now and then what has been written.
        chosen: whether an entry, by its path below the source's root, is restored; all are without it. The directories
            that lead to one come with it.

    Raises: TargetNotEmpty, TargetFull, RestoreError, UnsafeName, CorruptObject (root tree), the store's errors.
    """
    path = os.path.abspath(os.fsencode(target))
    started = time.monotonic()
    with reading(repository):
        data = open_snapshot(repository, snapshot)
        if replace and os.path.isdir(path) and os.listdir(path):
            done = _restore_beside(repository, data, path, on_progress)
        else:
            done = _restore_into(repository, data, path, on_progress, chosen)
    return RestoreReport(
        snapshot=snapshot.id,
        source=snapshot.source,
        target=os.fsdecode(path),
        files=done.files,
        directories=done.directories,
        others=done.others,
        bytes=done.bytes,
        seconds=time.monotonic() - started,
        damaged=tuple(done.damaged),
        notes=(*done.notes, *([INCREMENTAL] if _is_incremental(data.manifest) else [])),
    )


def _is_incremental(manifest: Manifest | None) -> bool:
    return manifest is not None and manifest.facts.get("builds_on") is not None


def _restore_into(
    repository: Repository,
    data: SnapshotData,
    path: bytes,
    on_progress: OnProgress | None,
    chosen: Chosen | None = None,
) -> Extracted:
    made = prepare_target(path)
    try:
        return Extraction(repository, path, on_progress, chosen).run(data.tree, data.root)
    except BaseException:
        # Nothing half-restored stays: the target was empty, so all that it holds now came from here.
        log.info("removing what was restored so far from %s", os.fsdecode(path))
        _empty(path, remove=made)
        raise


def _restore_beside(
    repository: Repository, data: SnapshotData, path: bytes, on_progress: OnProgress | None
) -> Extracted:
    mark = secrets.token_hex(4).encode()
    new, old = path + b".holdfast-new-" + mark, path + b".holdfast-old-" + mark
    done = _restore_into(repository, data, new, on_progress)
    if done.damaged:
        raise RestoreError(
            "the restored data is not whole, the old data was left in place",
            which=os.fsdecode(path),
            found=f"{len(done.damaged)} damaged, first {done.damaged[0]}",
            hint=f"what could be restored is in {os.fsdecode(new)}",
        )
    try:
        os.rename(path, old)
        os.rename(new, path)
    except OSError as error:
        if not os.path.lexists(path) and os.path.lexists(old):
            os.rename(old, path)
        raise RestoreError(
            "cannot swap the restored data in",
            which=os.fsdecode(path),
            found=error.strerror or str(error),
            hint=f"the restored data is whole in {os.fsdecode(new)}",
        ) from error
    shutil.rmtree(old)
    return done


def prepare_target(path: bytes) -> bool:
    """Make sure that a target is an empty directory; whether it was made here. Raises: TargetNotEmpty, RestoreError."""
    try:
        os.makedirs(path, 0o700)
    except FileExistsError:
        pass  # whether it is empty is looked at below
    except OSError as error:
        raise RestoreError("cannot make the target", which=os.fsdecode(path), found=error.strerror) from error
    else:
        return True
    try:
        found = [name for name in os.listdir(path) if name != b"lost+found"]
    except OSError as error:
        raise RestoreError("cannot use the target", which=os.fsdecode(path), found=error.strerror) from error
    if found:
        raise TargetNotEmpty(
            "the target is not empty",
            which=os.fsdecode(path),
            wanted="an empty or missing directory",
            found=f"{len(found)} entries, among them {os.fsdecode(sorted(found)[0])}",
            hint="restore to another place, or replace what is there with --replace",
        )
    return False


def _empty(path: bytes, *, remove: bool) -> None:
    with os.scandir(path) as scan:
        for item in list(scan):
            if item.is_dir(follow_symlinks=False):
                if item.name != b"lost+found":
                    shutil.rmtree(item.path)
            else:
                os.unlink(item.path)
    if remove:
        os.rmdir(path)
