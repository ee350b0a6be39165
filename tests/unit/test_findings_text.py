"""Findings in a terminal: counted by severity, each with what to do right below it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.cli.findings import counted, finding_lines
from holdfast.model.monitor import Finding, Severity


def finding(severity: str, hint: str = "", hours: int | None = None) -> Finding:
    since = datetime.now(UTC) - timedelta(hours=hours) if hours is not None else None
    return Finding(kind="backup-late", subject="shop", severity=Severity(severity), found="old", hint=hint, since=since)


def test_they_are_counted_worst_first() -> None:
    assert counted([]) == "no findings"
    assert counted([finding("info"), finding("critical"), finding("info")]) == "1 critical, 2 info"


def test_what_to_do_stands_below() -> None:
    assert list(finding_lines([finding("warning", "holdfast backup", 5), finding("info")])) == [
        "  WARNING: backup-late, shop: old [for 5 h 0 min]",
        "    to do: holdfast backup",
        "  INFO: backup-late, shop: old",
    ]
