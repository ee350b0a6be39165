"""What the monitor takes for a finding, decided without a clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.config.fields import length
from holdfast.model.monitor import Finding, Severity
from holdfast.policy.cadence import longest_pause, next_moment, tolerated_age
from holdfast.policy.freshness import Seen, Wanted, judge_stack, judge_verification, started_and_ended, with_since
from holdfast.policy.space import growth, judge_filesystem, seconds_until

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = 3600.0


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def kinds(wanted: Wanted, seen: Seen) -> dict[str, Severity]:
    return {finding.kind: finding.severity for finding in judge_stack(wanted, seen, NOW)}


FRESH = Seen(stack="shop", newest=ago(1), last_proven=ago(1), rto=10, size=100, size_before=100)


@pytest.mark.parametrize(
    ("wanted", "changes", "found"),
    [
        (Wanted(backup_within=26 * HOUR, proven_within=8 * 24 * HOUR, rto=60), {}, {}),
        (Wanted(backup_within=26 * HOUR), {"newest": ago(25.9)}, {}),
        (Wanted(backup_within=26 * HOUR), {"newest": ago(26.1)}, {"backup-late": "warning"}),
        (Wanted(backup_within=26 * HOUR), {"newest": ago(53)}, {"backup-late": "critical"}),
        (Wanted(backup_within=26 * HOUR), {"newest": None}, {"backup-missing": "critical"}),
        (Wanted(), {"newest": None, "last_proven": None}, {}),  # nobody promised anything
        (Wanted(proven_within=24 * HOUR), {"last_proven": None}, {"proof-missing": "warning"}),
        (Wanted(proven_within=24 * HOUR), {"last_proven": ago(30)}, {"proof-late": "warning"}),
        (Wanted(proven_within=24 * HOUR), {"last_proven": ago(50)}, {"proof-late": "critical"}),
        (Wanted(), {"failed_drill": "file a: differs"}, {"drill-failed": "critical"}),
        (Wanted(rto=9), {}, {"rto-above-objective": "warning"}),
        (Wanted(shrunk=0.5), {"size": 49}, {"backup-shrank": "warning"}),
        (Wanted(shrunk=0.5), {"size": 51}, {}),
        (Wanted(shrunk=0.5), {"size": 0}, {"backup-shrank": "warning"}),
        (Wanted(shrunk=0.5), {"size": 0, "size_before": 0}, {}),
        (Wanted(), {"incomplete_since": ago(1)}, {"backup-incomplete": "warning"}),
        (Wanted(backup_within=HOUR), {"newest": ago(-0.05)}, {}),  # two clocks are never quite the same
        (Wanted(backup_within=HOUR), {"newest": ago(-2)}, {"backup-from-the-future": "warning"}),
    ],
)
def test_a_stack_is_judged(wanted: Wanted, changes: dict[str, object], found: dict[str, str]) -> None:
    import msgspec

    assert kinds(wanted, msgspec.structs.replace(FRESH, **changes)) == found


def test_verifications_are_judged() -> None:
    judged = {f.kind: f.severity for f in judge_verification(ago(30), 3, 24 * HOUR, NOW)}
    assert judged == {"verification-failed": "critical", "verification-late": "warning"}
    assert list(judge_verification(None, 0, None, NOW)) == []
    assert [f.kind for f in judge_verification(None, 0, HOUR, NOW)] == ["verification-missing"]


def finding(name: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(kind=name, subject="shop", severity=severity, found="so")


@given(st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_each_finding_starts_once_and_ends_once(before: set[str], now: set[str]) -> None:
    old = with_since([], [finding(name) for name in before], ago(5))
    new = with_since(old, [finding(name) for name in now], NOW)
    started, ended = started_and_ended(old, new)
    assert {f.kind for f in started} == now - before
    assert {f.kind for f in ended} == before - now
    assert all(f.since == (ago(5) if f.kind in before else NOW) for f in new)


def test_one_that_became_worse_is_told_again() -> None:
    old, new = [finding("a")], [finding("a", Severity.CRITICAL)]
    assert started_and_ended(old, new) == (new, [])
    assert started_and_ended(new, old) == ([], [])


@pytest.mark.parametrize(
    ("cron", "hours"),
    [("0 3 * * *", 24), ("*/15 * * * *", 0.25), ("0 6 * * sun", 168), ("0 2 * * mon-fri", 72), ("0 0 1 * *", 31 * 24)],
)
def test_the_longest_pause_of_a_schedule(cron: str, hours: float) -> None:
    assert longest_pause(cron, "UTC", NOW) == hours * HOUR
    assert tolerated_age(cron, "UTC", NOW) == pytest.approx(hours * HOUR + max(hours * HOUR / 10, HOUR))


@given(jump=st.integers(-(10**9), 10**9), cron=st.sampled_from(["0 3 * * *", "*/5 * * * *", "30 2 * * sun"]))
def test_a_schedule_goes_on_wherever_the_clock_jumps(jump: int, cron: str) -> None:
    """Nothing is remembered of the time before: the next moment is ahead, and no farther than the longest pause."""
    now = NOW + timedelta(seconds=jump)
    ahead = (next_moment(cron, "Europe/Berlin", now) - now).total_seconds()
    assert 0 < ahead <= tolerated_age(cron, "Europe/Berlin", now)


def test_the_night_that_is_an_hour_longer_counts() -> None:
    assert longest_pause("0 3 * * *", "Europe/Berlin", datetime(2026, 10, 20, tzinfo=UTC)) == 25 * HOUR
    assert next_moment("0 3 * * *", "Europe/Berlin", NOW).astimezone(UTC).hour == 2


@pytest.mark.parametrize(
    ("text", "wanted"), [("26h", 93600), ("1d2h", 93600), ("90s", 90), ("15min", 900), ("2min5s", 125)]
)
def test_lengths_of_time(text: str, wanted: float) -> None:
    assert length(text) == wanted


def test_the_trend_is_not_bent_by_a_single_day() -> None:
    rate = 1e9 / 86400
    noise = random.Random(7)
    points = [(ago(240 - hour), 1e11 + rate * hour * HOUR + noise.uniform(-1e7, 1e7)) for hour in range(240)]
    points[100] = (points[100][0], 9e11)  # a copy that was deleted again
    points[150] = (points[150][0], 1e9)
    assert growth(points) == pytest.approx(rate, rel=0.05)
    assert seconds_until(1.2e11, points) == pytest.approx((1.2e11 - points[-1][1]) / rate, rel=0.05)
    assert growth(points[:5]) is None
    assert seconds_until(2e11, [(when, 5.0) for when, _ in points]) is None


@pytest.mark.parametrize(
    ("used", "inodes", "found"),
    [
        (50, 0.1, {}),
        (85, 0.1, {"space-short": "warning"}),
        (95, 0.1, {"space-short": "critical"}),
        (50, 0.95, {"inodes-short": "critical"}),
    ],
)
def test_a_filesystem_is_judged(used: float, inodes: float, found: dict[str, str]) -> None:
    judged = judge_filesystem(
        "/data", used=used, total=100, inodes=inodes, warning=0.8, critical=0.92, full_within=1e6, points=[]
    )
    assert {f.kind: f.severity for f in judged} == found


def test_one_that_fills_up_is_told_before_it_is_full() -> None:
    points = [(ago(48 - hour), 30.0 + hour) for hour in range(48)]
    judged = list(
        judge_filesystem(
            "/data", used=77, total=100, inodes=0, warning=0.8, critical=0.92, full_within=48 * HOUR, points=points
        )
    )
    assert [f.kind for f in judged] == ["space-runs-out"]
    assert "23 h" in judged[0].found
