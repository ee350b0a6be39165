"""Space: how full something is, and when it will be full by a trend that a single day does not bend.

The trend is Theil and Sen's: the median of the slopes between all pairs of points. A third of the points may be
nonsense (a clean-up, a copy that was deleted again) without moving it much.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from datetime import datetime

from holdfast.model.monitor import Finding, Severity
from holdfast.model.words import seconds, size

LEAST_POINTS = 6
LEAST_SECONDS = 6 * 3600.0
_MOST_POINTS = 60


def growth(points: Sequence[tuple[datetime, float]]) -> float | None:
    """Units per second; None while there are too few points, or over too short a time, to say anything."""
    if len(points) < LEAST_POINTS or (points[-1][0] - points[0][0]).total_seconds() < LEAST_SECONDS:
        return None
    step = max(1, len(points) // _MOST_POINTS)
    chosen = [*points[::step], points[-1]]
    slopes = [
        (later - earlier) / passed
        for number, (start, earlier) in enumerate(chosen)
        for end, later in chosen[number + 1 :]
        if (passed := (end - start).total_seconds()) > 0
    ]
    return statistics.median(slopes) if slopes else None


def seconds_until(total: float, points: Sequence[tuple[datetime, float]]) -> float | None:
    """When the last value of a growing series reaches `total`; None when it does not grow."""
    slope = growth(points)
    if slope is None or slope <= 0:
        return None
    return max(0.0, (total - points[-1][1]) / slope)


def judge_filesystem(
    path: str,
    *,
    used: float,
    total: float,
    inodes: float,
    warning: float,
    critical: float,
    full_within: float,
    points: Sequence[tuple[datetime, float]],
) -> Iterator[Finding]:
    """The findings about one filesystem: `used` and `total` in bytes, `inodes` and the limits as shares."""

    def finding(kind: str, severity: Severity, found: str, wanted: str) -> Finding:
        hint = f"du -xsh {path}/* ; docker system df"
        return Finding(kind=kind, subject=path, severity=severity, found=found, wanted=wanted, hint=hint, area="space")

    share = used / total if total else 0.0
    for kind, value, what in (("space", share, f"{size(total - used)} free"), ("inodes", inodes, "")):
        if value > warning:
            severity = Severity.CRITICAL if value > critical else Severity.WARNING
            found = f"{value:.0%} used{', ' + what if what else ''}"
            yield finding(f"{kind}-short", severity, found, f"at most {warning:.0%}")
    left = seconds_until(total, points)
    if left is not None and left < full_within and share <= critical:
        yield finding("space-runs-out", Severity.WARNING, f"full in {seconds(left)} by its trend", seconds(full_within))
