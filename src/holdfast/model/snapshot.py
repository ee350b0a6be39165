"""Snapshots and restore points: what was captured, when, and which captures belong together."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from holdfast.model.ids import PointId, SnapshotId, short

# What Holdfast must find again without opening the tree lives in tags: restic keeps them when it rewrites a snapshot,
# and `restic snapshots` shows them.
TAG = "holdfast"
CANARY = "holdfast-canary"
"""The stack that Holdfast makes, destroys and restores of itself; no user's data is in it."""
PATHS = "paths"
"""The stack of directories that were named on the command line; each set of them is a thing of its own."""
_STACK, _SOURCE, _POINT, _PARTS, _BYTES, _FILES = "stack=", "source=", "point=", "parts=", "bytes=", "files="


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One committed capture of one source.

    `time` is the start of the capture, as restic means it. `tree` is the hex id of the root tree's blob.
    """

    id: SnapshotId
    time: datetime
    tree: str
    paths: tuple[str, ...] = ()
    hostname: str = ""
    username: str = ""
    tags: tuple[str, ...] = ()
    parent: str | None = None
    program_version: str = ""

    @property
    def short_id(self) -> str:
        """The first eight digits of the id."""
        return short(self.id)

    @property
    def stack(self) -> str | None:
        """The stack it belongs to; None for a snapshot that Holdfast did not make."""
        return self._tagged(_STACK)

    @property
    def source(self) -> str:
        """The label of what was captured; the paths for a snapshot that Holdfast did not make."""
        return self._tagged(_SOURCE) or ", ".join(self.paths)

    @property
    def point(self) -> PointId | None:
        """The restore point it belongs to."""
        found = self._tagged(_POINT)
        return PointId(found) if found else None

    @property
    def parts(self) -> int:
        """How many snapshots the whole restore point has."""
        found = self._tagged(_PARTS)
        return int(found) if found and found.isdigit() else 1

    @property
    def size(self) -> int | None:
        """Bytes of content that were seen; None when that was not recorded."""
        return self._counted(_BYTES)

    @property
    def files(self) -> int | None:
        """Regular files in it; None when that was not recorded."""
        return self._counted(_FILES)

    def _counted(self, prefix: str) -> int | None:
        found = self._tagged(prefix)
        return int(found) if found and found.isdigit() else None

    def _tagged(self, prefix: str) -> str | None:
        return next((tag.removeprefix(prefix) for tag in self.tags if tag.startswith(prefix)), None)


def tags_for(*, stack: str, source: str, point: PointId, parts: int, size: int, files: int) -> tuple[str, ...]:
    """The tags of a snapshot that Holdfast makes."""
    named = (f"{_STACK}{stack}", f"{_SOURCE}{source}", f"{_POINT}{point}", f"{_PARTS}{parts}")
    return (TAG, *named, f"{_BYTES}{size}", f"{_FILES}{files}")


class RestorePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of one run of a stack, taken together: restored, kept, forgotten and proven as one.

    A snapshot that Holdfast did not make is a restore point of its own, named by its snapshot id, with the stack "".
    """

    id: PointId
    stack: str
    time: datetime
    snapshots: tuple[Snapshot, ...]

    @property
    def complete(self) -> bool:
        """Whether every source of the run was committed; one that was committed twice counts once."""
        return len({snapshot.source for snapshot in self.snapshots}) >= max(
            snapshot.parts for snapshot in self.snapshots
        )

    @property
    def size(self) -> int | None:
        """Bytes of content of all its sources; None when that was not recorded of each."""
        return _sum(snapshot.size for snapshot in self._sources)

    @property
    def files(self) -> int | None:
        """Regular files of all its sources; None when that was not recorded of each."""
        return _sum(snapshot.files for snapshot in self._sources)

    @property
    def _sources(self) -> Iterable[Snapshot]:
        """One snapshot for each source: the last that was committed."""
        return {snapshot.source: snapshot for snapshot in self.snapshots}.values()


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def restore_points(snapshots: Iterable[Snapshot]) -> list[RestorePoint]:
    """Snapshots grouped into restore points, oldest first; the time of a point is that of its first snapshot."""
    groups: dict[tuple[str, str], list[Snapshot]] = {}
    for snapshot in snapshots:
        key = (snapshot.stack or "", snapshot.point or snapshot.id)
        groups.setdefault(key, []).append(snapshot)
    points = [
        RestorePoint(
            id=PointId(point),
            stack=stack,
            time=min(member.time for member in members).astimezone(UTC),
            snapshots=tuple(sorted(members, key=lambda member: (member.time, member.id))),
        )
        for (stack, point), members in groups.items()
    ]
    return sorted(points, key=lambda point: (point.time, point.id))
