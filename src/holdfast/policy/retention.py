"""Retention: which restore points of one stack stay, which go, and why. Pure: no clock, no store.

Rules upheld here:
- The rules are those of restic's `forget`: points are looked at newest first, the last of each bucket (hour, day, week,
  month, year) is kept until the rule's count is used up; what is younger than `within`, counted back from the newest
  point, stays. When a count is not used up, the oldest point stays, too.
- Above every rule: the newest whole point stays, and of the proven ones that are still there the last. An incomplete
  point never uses up a count. A stack is never emptied.
- What a point that stays builds on stays, whatever the rules say.
- A point from the future (a clock was wrong) stays and counts for nothing: it is not the newest one, and no span of
  time is counted back from it.
- Nothing is forgotten after a failed run: while the newest point is incomplete, everything stays.
- No rule at all keeps everything.

Source: restic, `doc/060_forget.rst`, "Removing snapshots according to a policy".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from holdfast.model.ids import PointId
from holdfast.model.snapshot import RestorePoint

FUTURE = timedelta(hours=1)
"""How far ahead of this clock a point may be: hosts' clocks differ a little."""


class Duration(msgspec.Struct, frozen=True):
    """A length of time as restic writes it: `1y6m2d12h`."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def before(self, moment: datetime) -> datetime:
        """The moment this long before another: years and months by the calendar, an overflowing day runs on."""
        months = moment.year * 12 + moment.month - 1 - self.years * 12 - self.months
        if months < 12:
            return datetime.min.replace(tzinfo=moment.tzinfo)
        first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
        try:
            return first + timedelta(days=moment.day - 1) - timedelta(days=self.days, hours=self.hours)
        except OverflowError:
            return datetime.min.replace(tzinfo=moment.tzinfo)


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps a restore point; None is a rule that is not there. `timezone` says where days and weeks begin.

    `recovery_window` is how far back databases with a WAL archive can be recovered to any instant: it adds to the
    rules, and keeps nothing else.

    Raises: ValueError for a count below 1 or an unknown time zone.
    """

    keep_last: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    keep_within: Duration | None = None
    recovery_window: Duration | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        for name in _COUNTS:
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} is {count}: a rule keeps at least 1, one that is not wanted is left out")
        try:
            ZoneInfo(self.timezone)
        except (KeyError, OSError) as error:
            raise ValueError(f"not a time zone: {self.timezone!r}") from error

    @property
    def empty(self) -> bool:
        """Whether there is no rule."""
        return self.keep_within is None and all(getattr(self, name) is None for name in _COUNTS)


_COUNTS = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One restore point: kept or not, with the reasons in words."""

    point: PointId
    time: datetime
    keep: bool
    reasons: tuple[str, ...]


def decide(
    points: Sequence[RestorePoint],
    rules: Rules,
    *,
    now: datetime,
    proven: Sequence[PointId] = (),
    needed: Mapping[PointId, str] | None = None,
    builds_on: Mapping[PointId, Sequence[PointId]] | None = None,
) -> list[Decision]:
    """A decision for each restore point of one stack, newest first.

    Args:
        points: all of the stack's points, in any order.
        rules: what keeps them.
        now: the present.
        proven: those that a drill proved, in the order of the drills.
        needed: those that something else needs (a recovery window), with the reason.
        builds_on: the points without which a point is worth nothing (the base backups below an incremental one), all
            of them, however far down.
    """
    by_time = sorted(points, key=lambda point: (point.time, point.id), reverse=True)
    ordered = [point for point in by_time if point.time <= now + FUTURE]
    whole = [point for point in ordered if point.complete]
    reasons: dict[PointId, list[str]] = {point.id: [] for point in by_time}
    for name, count, bucket in _buckets(rules):
        _apply(whole, name, count, bucket, reasons)
    _apply_within(whole, rules.keep_within, reasons)
    for point_id, why in (needed or {}).items():
        if point_id in reasons:
            reasons[point_id].append(why)
    if whole:
        reasons[whole[0].id].append("the newest whole one")
    last_proven = next((point for point in reversed(proven) if point in reasons), None)
    if last_proven is not None:
        reasons[last_proven].append("the last proven one")
    if rules.empty:
        _keep(by_time, "no rule is set: everything stays", reasons)
    if ordered and not ordered[0].complete:
        unkept = [point for point in ordered if not reasons[point.id]]
        _keep(unkept, "the last run was not finished: nothing is forgotten until one is", reasons)
    _keep(by_time[: len(by_time) - len(ordered)], "dated in the future: it stays, and counts for nothing", reasons)
    _keep_below(builds_on or {}, reasons)
    return [_decision(point, reasons[point.id]) for point in by_time]


def _keep_below(builds_on: Mapping[PointId, Sequence[PointId]], reasons: dict[PointId, list[str]]) -> None:
    staying = [point for point, why in reasons.items() if why]
    for point in staying:
        for below in builds_on.get(point, ()):
            if below in reasons:
                reasons[below].append(f"{point} builds on it")


def _keep(points: Sequence[RestorePoint], why: str, reasons: dict[PointId, list[str]]) -> None:
    for point in points:
        reasons[point.id].append(why)


def _decision(point: RestorePoint, reasons: Sequence[str]) -> Decision:
    why = tuple(reasons) or (("no rule keeps it",) if point.complete else ("incomplete, and a whole one is newer",))
    return Decision(point=point.id, time=point.time, keep=bool(reasons), reasons=why)


_Bucket = Callable[[datetime], object]


def _buckets(rules: Rules) -> list[tuple[str, int, _Bucket | None]]:
    zone = ZoneInfo(rules.timezone)

    def local(moment: datetime) -> datetime:
        return moment.astimezone(zone)

    found: list[tuple[str, int | None, _Bucket | None]] = [
        ("last", rules.keep_last, None),
        ("hourly", rules.keep_hourly, lambda moment: (*local(moment).timetuple()[:4], local(moment).utcoffset())),
        ("daily", rules.keep_daily, lambda moment: local(moment).date()),
        ("weekly", rules.keep_weekly, lambda moment: local(moment).isocalendar()[:2]),
        ("monthly", rules.keep_monthly, lambda moment: local(moment).timetuple()[:2]),
        ("yearly", rules.keep_yearly, lambda moment: local(moment).year),
    ]
    return [(name, count, bucket) for name, count, bucket in found if count]


def _apply(
    whole: Sequence[RestorePoint], name: str, count: int, bucket: _Bucket | None, reasons: dict[PointId, list[str]]
) -> None:
    kept = 0
    last: object = None
    for position, point in enumerate(whole):
        value: object = position if bucket is None else bucket(point.time)
        oldest = position == len(whole) - 1
        if kept >= count:
            return
        if position == 0 or value != last or oldest:
            kept += 1
            first = position == 0 or value != last
            reasons[point.id].append(f"{'' if first else 'oldest, '}{name} {kept} of {count}")
        last = value


def _apply_within(whole: Sequence[RestorePoint], within: Duration | None, reasons: dict[PointId, list[str]]) -> None:
    if within is None or not whole:
        return
    limit = within.before(whole[0].time)
    for point in whole:
        if point.time > limit:
            reasons[point.id].append("within the time kept")
