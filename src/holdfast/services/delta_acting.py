"""What one delta restore does to its target, or in a dry run only says: looking, removing, telling, counting.

Rules upheld here:
- A dry run writes nothing; what it would have made counts as not there.
- What was done, and to which entry, is told; the first 2,000 lines are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.repository.tree import Node
from holdfast.services.delta_target import entries_below, look, mount_points, remove, settle
from holdfast.services.metadata import MetadataWriter

_LINES = 2_000


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


class Acting:
    """One run's hands on `target`. `absent` paths are those that a dry run would have made."""

    def __init__(self, target: bytes, *, dry: bool) -> None:
        self.target, self.dry = target, dry
        self.done = DeltaProgress()
        self.metadata = MetadataWriter()
        self.absent: set[bytes] = set()
        self._mounts = mount_points()

    def settle(self, path: bytes, node: Node) -> None:
        """Set an entry's metadata where it differs."""
        if (self.dry and self.look(path) is None) or not settle(self.metadata, path, node, dry_run=self.dry):
            return
        self.done.settled += 1

    def look(self, path: bytes) -> os.stat_result | None:
        """An entry's status; None when it is not there, or would not be there yet."""
        if self.dry and os.path.dirname(path) in self.absent:
            return None
        return look(path)

    def remove(self, path: bytes) -> None:
        """Remove an entry, with all below."""
        self.tell("remove", path)
        self.done.removed += sum(1 for _ in entries_below(path)) if self.dry else remove(path, self._mounts)

    def act(self, work: Callable[[], object]) -> None:
        """Do it, unless it is a dry run."""
        if not self.dry:
            work()

    def tell(self, what: str, path: bytes, more: str = "") -> None:
        """Say what happens to an entry."""
        if len(self.done.lines) < _LINES:
            self.done.lines.append(f"{what} {os.fsdecode(os.path.relpath(path, self.target))}{more}")

    def damage(self, path: bytes, why: str) -> None:
        """Name an entry that is not as it should be, and why."""
        self.done.damaged.append(f"{os.fsdecode(os.path.relpath(path, self.target))}: {why}")
