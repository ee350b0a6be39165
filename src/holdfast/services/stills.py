"""Directories that stand still in a filesystem's own snapshot, so that their writers go on at once.

Rules upheld here:
- Whether a directory qualifies is found before anything is held; what is not sure is read while it is held, and so is
  what a snapshot was to be taken of and could not.
- A snapshot is written down before it is made, and gone when the capture is over, also after a kill; one that could
  not be removed is left to the watchdog, then to the next start.
- Directories of one place share one snapshot: they are of one instant without being held for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from holdfast.engine.still import Place, Still, place_of, remove_still
from holdfast.engine.subvolume import PREFIX
from holdfast.errors import HoldfastError, SourceUnreadable
from holdfast.sources.frozen import LiveTree, sync_filesystem

log = logging.getLogger(__name__)


class Stills:
    """The snapshots of one capture. Use it in a `with` block.

    Args:
        note: writes down what is about to be made.
        gone: told what was removed.
    """

    def __init__(self, note: Callable[[str], None], gone: Callable[[str], None]) -> None:
        self._note, self._gone = note, gone
        self._places: dict[str, Place] = {}
        self._roots: dict[str, bytes] = {}
        self._planned: dict[str, Still] = {}
        self._begun: list[Still] = []
        self._shown: dict[str, str] = {}

    def prepare(self, live: LiveTree) -> bool:
        """Whether a directory will stand still in a snapshot; then what its filesystem holds in memory is written."""
        try:
            place = place_of(os.fsdecode(live.root), live.devices)
        except OSError as error:
            log.warning("%s: whether it could stand still in a snapshot is not known: %s", live.label, error)
            return False
        if place is None:
            return False
        self._places[live.label] = place
        self._roots[place.top] = live.root
        if place.top not in self._planned:
            self._planned[place.top] = place.plan()
        sync_filesystem(live.root)  # else it would be written while the containers are held
        return True

    def take(self) -> None:
        """Take the snapshots, while everything is held. What fails is told, and its directories do not stand still."""
        for top, still in list(self._planned.items()):
            self._note(still.note)
            self._begun.append(still)
            try:
                if not still.syncs:
                    sync_filesystem(self._roots[top])
                still.take()
            except SourceUnreadable as error:
                log.warning("no snapshot, what changed is copied while its writers are held: %s", error)
                del self._planned[top]

    def still(self, label: str) -> bool:
        """Whether a directory stands still in a snapshot that was taken."""
        return label in self._places and self._places[label].top in self._planned

    def where(self, label: str) -> str | None:
        """Where a directory that stands still can be read; None for others. Raises: SourceUnreadable."""
        if not self.still(label):
            return None
        place = self._places[label]
        if place.top not in self._shown:
            self._shown[place.top] = self._planned[place.top].show()
        return os.path.join(self._shown[place.top], place.below).rstrip("/")

    def __enter__(self) -> Stills:
        return self

    def __exit__(self, *_: object) -> None:
        for still in self._begun:
            try:
                remove_still(still.note)
            except HoldfastError as error:
                log.warning("a snapshot is left to the watchdog: %s", error)
            else:
                self._gone(still.note)


OURS = f"{PREFIX}*"
"""What is never captured: a snapshot that lies in the directory itself."""
