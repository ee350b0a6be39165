"""Putting a restored tree where another one may be: beside it first, compared, then swapped; the old one kept.

Rules upheld here:
- Until `swap` nothing that was there is touched. After it the old tree lies beside the new one, until `commit`.
- `undo` gives the state from before, at any point.
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

_SHOWN = 5


class Placement:
    """One tree on its way to `path`, a directory that may be missing, empty or full."""

    def __init__(self, path: str) -> None:
        self.path = path
        mark = secrets.token_hex(4)
        self._new, self._old = f"{path}.holdfast-new-{mark}", f"{path}.holdfast-old-{mark}"
        self._swapped = False

    def prepare(self, repository: Repository, snapshot: Snapshot, on_progress: OnProgress | None) -> RestoreReport:
        """Restore beside, and compare with the snapshot. Raises: RestoreError when anything differs."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        report = restore_directory(repository, snapshot, self._new, on_progress=on_progress)
        with reading(repository):
            compared = compare_directory(repository.reader, open_snapshot(repository, snapshot), os.fsencode(self._new))
        problems = [*report.damaged, *compared.problems]
        if problems:
            raise RestoreError(
                "what was restored is not what was backed up; nothing was replaced",
                which=snapshot.source,
                wanted="no difference",
                found=f"{len(problems)}: {'; '.join(problems[:_SHOWN])}",
                hint="holdfast verify --read-data; an older restore point may be whole: holdfast list",
            )
        return report

    def swap(self) -> None:
        """Put the new tree in its place, the old one beside. Raises: RestoreError; then all is as it was."""
        try:
            if os.path.lexists(self.path):
                os.rename(self.path, self._old)
            os.rename(self._new, self.path)
        except OSError as error:
            if not os.path.lexists(self.path) and os.path.lexists(self._old):
                os.rename(self._old, self.path)
            raise RestoreError("cannot swap restored data in", which=self.path, found=error.strerror) from error
        self._swapped = True

    def commit(self) -> None:
        """The new tree is proven: the old one goes."""
        if os.path.isdir(self._old):
            shutil.rmtree(self._old)

    def undo(self) -> None:
        """The old tree comes back, the new one goes."""
        if self._swapped:
            os.rename(self.path, self._new)
            if os.path.lexists(self._old):
                os.rename(self._old, self.path)
            self._swapped = False
        if os.path.isdir(self._new):
            shutil.rmtree(self._new)
