"""How sizes move: every size that is measured, how fast it grows, and when it reaches its limit. No clock, no I/O.

Rules upheld here:
- Growth is told only where there are enough points over enough time (`policy.space`); else it is None.
- Points are kept for what a picture shows: filesystems, and the few volumes that grow fastest.
- Files are counted by backups, which see each of them: nothing else is worth a walk through a volume. Their growth is
  from backup to backup, and not from one look at the same backup to the next.
- The engine knows the sizes of its own volumes only: of another driver's, that of its backup is told, and is called so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from holdfast.model.monitor import Trend
from holdfast.model.snapshot import RestorePoint
from holdfast.policy.space import growth, seconds_until

TREND_DAYS = 14
"""The days of which growth is told."""
DRAWN = 4
"""Volumes of which points are kept."""
_POINTS = 40
_DAY = 86400.0
KINDS = {
    "filesystem-used-bytes": "filesystem",
    "volume-bytes": "volume",
    "volume-backed-up-bytes": "volume's backup",
    "stack-bytes": "stack",
    "engine-images-bytes": "engine",
    "engine-containers-bytes": "engine",
    "engine-build-cache-bytes": "engine",
    "engine-logs-bytes": "engine",
    "store-bytes": "store",
}
_NAMES = {
    "engine-images-bytes": "images",
    "engine-containers-bytes": "containers' own layers",
    "engine-build-cache-bytes": "build cache",
    "engine-logs-bytes": "containers' logs",
    "store-bytes": "repository",
}
_FILES = {"volume-bytes": "volume-files", "volume-backed-up-bytes": "volume-files", "stack-bytes": "stack-files"}
_VOLUME = "volume:"
Series = list[tuple[datetime, float]]
_ORDER = list(dict.fromkeys(KINDS.values()))


def backed_up(points: Iterable[RestorePoint], stacks: Collection[str], since: datetime) -> dict[str, Series]:
    """Files of volumes and stacks, bytes of volumes at their backups, by measure: since then, and always the newest.

    `points` are restore points, oldest first.
    """
    counts: dict[str, Series] = {}
    for point in points:
        if point.stack in stacks and point.complete and point.files is not None:
            counts.setdefault(f"stack-files {point.stack}", []).append((point.time, point.files))
        for snapshot in point.snapshots if point.stack in stacks else ():
            for word, value in (("files", snapshot.files), ("backed-up-bytes", snapshot.size)):
                if snapshot.source.startswith(_VOLUME) and value is not None:
                    measure = f"volume-{word} {snapshot.source.removeprefix(_VOLUME)}"
                    counts.setdefault(measure, []).append((snapshot.time, value))
    return {name: [each for each in found[:-1] if each[0] >= since] + found[-1:] for name, found in counts.items()}


def trends(measured: Mapping[str, Sequence[tuple[datetime, float]]], limits: Mapping[str, float]) -> tuple[Trend, ...]:
    """The trend of each measure that is a size; `limits` by measure. The last point of each is now."""
    found = [
        _trend(measure, points, limits.get(measure), measured)
        for measure, points in measured.items()
        if points and measure.partition(" ")[0] in KINDS and not _known_better(measure, measured)
    ]
    growing = sorted((t for t in found if t.kind == "volume"), key=lambda t: -(t.per_day or 0.0))[:DRAWN]
    drawn = {trend.name for trend in growing}
    kept = [t if t.kind == "filesystem" or t.name in drawn else msgspec.structs.replace(t, points=()) for t in found]
    return tuple(sorted(kept, key=_rank))


def _known_better(measure: str, measured: Collection[str]) -> bool:
    """Whether it is the size of a volume's backup, and the engine knows that of the volume."""
    word, _, name = measure.partition(" ")
    return word == "volume-backed-up-bytes" and f"volume-bytes {name}" in measured


def _rank(trend: Trend) -> tuple[int, float, float, str]:
    """By kind; what will be full first goes first, then what is largest."""
    return _ORDER.index(trend.kind), math.inf if trend.full_in is None else trend.full_in, -trend.now, trend.name


def _trend(
    measure: str,
    points: Sequence[tuple[datetime, float]],
    limit: float | None,
    measured: Mapping[str, Sequence[tuple[datetime, float]]],
) -> Trend:
    word, _, name = measure.partition(" ")
    files = measured.get(f"{_FILES.get(word)} {name}", ())
    return Trend(
        kind=KINDS[word],
        name=name or _NAMES[word],
        now=points[-1][1],
        limit=limit,
        per_day=_per_day(points),
        full_in=None if limit is None else seconds_until(limit, points),
        files=files[-1][1] if files else None,
        files_per_day=_per_day(files),
        points=thinned(points),
    )


def _per_day(points: Sequence[tuple[datetime, float]]) -> float | None:
    slope = growth(points)
    return None if slope is None else slope * _DAY


def thinned(points: Sequence[tuple[datetime, float]], most: int = _POINTS) -> tuple[tuple[datetime, float], ...]:
    """At most so many of the points, the first and the last among them."""
    if len(points) <= most:
        return tuple(points)
    step = (len(points) - 1) / (most - 1)
    return tuple(points[round(number * step)] for number in range(most))
