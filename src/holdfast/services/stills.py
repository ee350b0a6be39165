"""Directories that stand still in a filesystem's own snapshot, so that their writers go on at once.

Rules upheld here:
- Whether a directory qualifies is found before anything is held; what is not sure is read while it is held.
- A snapshot is written down before it is made, and gone when the capture is over, also after a kill.
- Directories of one subvolume share one snapshot: they are of one instant without being held for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from holdfast.engine.subvolume import (
    PREFIX,
    FsSnapshot,
    Subvolume,
    planned_snapshot,
    remove_snapshot,
    subvolume_of,
    take_snapshot,
)
from holdfast.errors import HoldfastError
from holdfast.sources.frozen import LiveTree, sync_filesystem

log = logging.getLogger(__name__)


class Stills:
    """The snapshots of one capture. `note` writes a snapshot's path down. Use it in a `with` block."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._places: dict[str, Subvolume] = {}
        self._planned: dict[str, FsSnapshot] = {}
        self._taken: list[FsSnapshot] = []

    def prepare(self, live: LiveTree) -> bool:
        """Whether a directory will stand still in a snapshot; then what its filesystem holds in memory is written."""
        try:
            place = subvolume_of(os.fsdecode(live.root), live.devices)
        except OSError as error:
            log.warning("%s: whether it could stand still in a snapshot is not known: %s", live.label, error)
            return False
        if place is None:
            return False
        self._places[live.label] = place
        self._planned.setdefault(place.top, planned_snapshot(place))
        sync_filesystem(live.root)  # else it would be written while the containers are held
        return True

    def take(self) -> None:
        """Make the snapshots, while everything is held. Raises: SourceUnreadable."""
        for snapshot in self._planned.values():
            self._note(snapshot.path)
            self._taken.append(snapshot)
            take_snapshot(snapshot)

    def where(self, label: str) -> str | None:
        """Where a directory stands still; None when it does not."""
        place = self._places.get(label)
        return os.path.join(self._planned[place.top].path, place.below).rstrip("/") if place else None

    def __enter__(self) -> Stills:
        return self

    def __exit__(self, *_: object) -> None:
        for snapshot in self._taken:
            try:
                remove_snapshot(snapshot.path)
            except HoldfastError as error:
                log.warning("%s", error)


OURS = f"{PREFIX}*"
"""What is never captured: a snapshot that lies in the directory itself."""
