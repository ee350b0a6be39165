"""Keys, buckets, clocks and WAL as findings, decided without looking at any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from holdfast.model.bucket import BucketFacts
from holdfast.model.wal_state import Finding, Name
from holdfast.policy.safety import judge_bucket, judge_keys
from holdfast.policy.wal_findings import Exposure
from holdfast.policy.wal_watch import judge_wal

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
SAFE = BucketFacts(name="b", versioned=True, locked=False, readable_by_all=False, asked=NOW, clock=NOW)


@pytest.mark.parametrize(
    ("readable", "total", "before", "severity"),
    [
        (2, 2, 2, None),
        (1, 1, 0, "info"),
        (1, 1, 1, "info"),
        (1, 1, 2, "warning"),
        (1, 2, 2, "warning"),
        (2, 3, 3, None),
    ],
)
def test_keys(readable: int, total: int, before: int, severity: str | None) -> None:
    assert [finding.severity for finding in judge_keys(readable, total, before)] == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"versioned": False}, {"bucket-forgets": "warning"}),
        ({"versioned": None, "locked": None}, {"bucket-forgets": "info"}),
        ({"versioned": False, "locked": True}, {}),
        ({"readable_by_all": True}, {"bucket-readable-by-all": "critical"}),
        ({"clock": NOW + timedelta(minutes=4)}, {}),
        ({"clock": NOW + timedelta(minutes=6)}, {"clock-differs": "warning"}),
        ({"clock": NOW - timedelta(days=400)}, {"clock-differs": "warning"}),
        ({"clock": None}, {}),
    ],
)
def test_buckets_and_clocks(changes: dict[str, object], found: dict[str, str]) -> None:
    facts = msgspec.structs.replace(SAFE, **changes)
    assert {finding.kind: str(finding.severity) for finding in judge_bucket(facts)} == found


@pytest.mark.parametrize(
    ("lost_bytes", "lost_seconds", "found"), [(10, 61.0, True), (10, 59.0, False), (0, 999.0, False), (10, None, False)]
)
def test_wal_is_behind_by_the_stacks_own_limit(lost_bytes: int, lost_seconds: float | None, found: bool) -> None:
    seen = Exposure(archived_to="0/1", lost_bytes=lost_bytes, lost_seconds=lost_seconds)
    usual = Finding(name=Name.BEHIND, critical=True, text="by the limit of another")
    gap = Finding(name=Name.GAP, critical=True, text="one is missing")
    kinds = [finding.kind for finding in judge_wal("shop db", [usual, gap], seen, behind=60.0)]
    assert kinds == ["wal-gap", *(["wal-behind"] if found else [])]
