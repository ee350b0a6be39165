"""A filesystem's own snapshot, in which a directory stands still while its writers go on: one door to all kinds.

Rules upheld here:
- A directory qualifies only if the whole of it lies in what one snapshot holds; that is found before anything is held.
- While writers are held a snapshot is only taken. What it takes to read it comes after they go on, if it cannot fail.
- What is made is written down before, as a note that is enough to remove it; removing takes only what carries our name.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Protocol

from holdfast.engine import dataset, subvolume, thinvolume
from holdfast.errors import SourceUnreadable


class Still(Protocol):
    """A snapshot: planned, then taken, then shown."""

    @property
    def note(self) -> str:
        """What is to be written down before it is taken: `remove_still` undoes it."""
        ...

    @property
    def syncs(self) -> bool:
        """Whether taking it writes back what the filesystem holds in memory."""
        ...

    def take(self) -> None:
        """Take it: a moment, while writers are held. Raises: SourceUnreadable."""
        ...

    def show(self) -> str:
        """Where the top of what it holds can be read. Raises: SourceUnreadable."""
        ...


class Place(Protocol):
    """What one snapshot holds, and where in it a directory lies."""

    @property
    def top(self) -> str:
        """Its name: directories of one place share a snapshot."""
        ...

    @property
    def below(self) -> str:
        """The directory's path in it."""
        ...

    def plan(self) -> Still:
        """A snapshot to take."""
        ...


def place_of(path: str, devices: Collection[int]) -> Place | None:
    """What holds all of a directory and can give a snapshot; None where nothing does.

    `devices` are those of everything that was seen in the directory. Raises: OSError.
    """
    return (
        subvolume.subvolume_of(path, devices)
        or dataset.dataset_of(path, devices)
        or thinvolume.volume_of(path, devices)
    )


def remove_still(note: str) -> None:
    """Remove a snapshot that was written down; one that is not there is fine. Raises: SourceUnreadable."""
    if note.startswith("/"):
        subvolume.remove_snapshot(note)
        return
    kind, *names = json.loads(note)
    if kind == dataset.KIND:
        dataset.remove_snapshot(*names)
    elif kind == thinvolume.KIND:
        thinvolume.remove_snapshot(*names)
    else:
        raise SourceUnreadable("this is no snapshot of ours", which=note)
