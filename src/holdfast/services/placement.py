"""Putting a restored tree where another one may be: beside it first, compared, then swapped; the old one kept.

Rules upheld here:
- Until `swap` nothing that was there is touched. After it the old tree lies beside the new one, until it is discarded.
- A directory that is a filesystem of its own cannot be renamed: both trees lie in it then, and its entries are swapped.
- The new tree is on the disk before it is swapped in.
- `swap_back` and `discard` give the state from before, at any point, also to another process.
"""

from __future__ import annotations

import os
import secrets
import shutil

from holdfast.errors import RestoreError
from holdfast.model.snapshot import Snapshot
from holdfast.repository.repository import Repository
from holdfast.services.compare import compare_directory
from holdfast.services.restore import OnProgress, RestoreReport, open_snapshot, reading, restore_directory
from holdfast.sources.frozen import sync_filesystem

_SHOWN = 5
_OURS = ".holdfast-"


class Placement:
    """One tree on its way to `path`, a directory that may be missing, empty or full."""

    def __init__(self, path: str) -> None:
        self.path = path
        mark = secrets.token_hex(4)
        beside = os.path.join(path, _OURS) if os.path.ismount(path) else f"{path}{_OURS}"
        self.new, self.old = f"{beside}new-{mark}", f"{beside}old-{mark}"

    def prepare(self, repository: Repository, snapshot: Snapshot, on_progress: OnProgress | None) -> RestoreReport:
        """Restore beside, and compare with the snapshot. Raises: RestoreError when anything differs."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        report = restore_directory(repository, snapshot, self.new, on_progress=on_progress)
        with reading(repository):
            compared = compare_directory(repository.reader, open_snapshot(repository, snapshot), os.fsencode(self.new))
        problems = [*report.damaged, *compared.problems]
        if problems:
            raise RestoreError(
                "what was restored is not what was backed up; nothing was replaced",
                which=snapshot.source,
                wanted="no difference",
                found=f"{len(problems)}: {'; '.join(problems[:_SHOWN])}",
                hint="holdfast verify --read-data; an older restore point may be whole: holdfast list",
            )
        sync_filesystem(os.fsencode(self.new))
        return report

    def swap(self) -> None:
        """Put the new tree in its place, the old one beside. Raises: RestoreError; then all is as it was."""
        was = os.path.lexists(self.path)
        try:
            if _is_inside(self.path, self.new):
                _swap_entries(self.path, new=self.new, old=self.old)
                return
            if was:
                os.rename(self.path, self.old)
            os.rename(self.new, self.path)
        except OSError as error:
            swap_back(self.path, new=self.new, old=self.old, was=was)
            raise RestoreError("cannot swap restored data in", which=self.path, found=error.strerror) from error


def swap_back(path: str, *, new: str, old: str, was: bool) -> None:
    """Undo a swap, wherever it was broken off; `was` tells whether anything was in the place before."""
    if _is_inside(path, new):
        _swap_entries_back(path, new=new, old=old)
    elif os.path.lexists(old):
        if os.path.lexists(path):
            os.rename(path, new)
        os.rename(old, path)
    elif not was and os.path.lexists(path) and not os.path.lexists(new):
        os.rename(path, new)


def _is_inside(path: str, new: str) -> bool:
    return os.path.dirname(new) == path


def _swap_entries(path: str, *, new: str, old: str) -> None:
    """The old entries have gone all of them once `old` has its name: until then it is `old.part`."""
    part = f"{old}.part"
    os.mkdir(part)
    _take_over(part, path)
    _move_entries(path, part)
    os.rename(part, old)
    _move_entries(new, path)
    _take_over(path, new)


def _swap_entries_back(path: str, *, new: str, old: str) -> None:
    part = f"{old}.part"
    if os.path.isdir(part):
        _move_entries(part, path)
        _take_over(path, part)
        os.rmdir(part)
    elif os.path.isdir(old):
        os.makedirs(new, exist_ok=True)
        _move_entries(path, new)
        os.rename(old, part)  # what was new has gone: from here on the old entries come back
        _swap_entries_back(path, new=new, old=old)


def _move_entries(source: str, target: str) -> None:
    for name in sorted(os.listdir(source)):
        if not name.startswith(_OURS) and name != "lost+found":
            os.rename(os.path.join(source, name), os.path.join(target, name))


def _take_over(path: str, other: str) -> None:
    """Give a directory the owner, mode, attributes and times of another."""
    status = os.stat(other)
    os.chown(path, status.st_uid, status.st_gid)
    shutil.copystat(other, path)


def discard(path: str) -> None:
    """Remove a tree, or a single entry, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
