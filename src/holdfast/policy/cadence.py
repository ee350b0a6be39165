"""How often something is due by its cron expression, and how late it may be before that is a finding."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

_LOOK_AHEAD = timedelta(days=370)
_MOST = 600
_LEAST_GRACE = 3600.0


def longest_pause(cron: str, timezone: str, now: datetime) -> float:
    """The longest time between two of its next moments, in seconds; nights and week-ends count as it says."""
    moments = CronSim(cron, now.astimezone(ZoneInfo(timezone)))
    before, longest = next(moments), 0.0
    for _ in range(_MOST):
        after = next(moments, None)
        if after is None:
            break
        longest = max(longest, after.timestamp() - before.timestamp())
        if after - now > _LOOK_AHEAD:
            break
        before = after
    return longest


def tolerated_age(cron: str, timezone: str, now: datetime) -> float:
    """How old the newest result may be, in seconds: the longest pause, and a tenth of it or an hour more."""
    pause = longest_pause(cron, timezone, now)
    return pause + max(pause / 10, _LEAST_GRACE)


def next_moment(cron: str, timezone: str, now: datetime) -> datetime:
    """When it is due next."""
    return next(CronSim(cron, now.astimezone(ZoneInfo(timezone))))
