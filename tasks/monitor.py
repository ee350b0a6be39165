"""The task of the monitor: look once, and show what was found."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from prefect import get_run_logger

from holdfast.model.monitor import Finding
from holdfast.reports.status import publish
from holdfast.services.monitor import MonitorReport, StackView, watch
from tasks.artifacts import moment, seconds, show_table, size
from tasks.common import explained, served_configuration, step


@step("look at everything", "look at everything")
def look(config: str) -> MonitorReport:
    """One run of the monitor. What it finds does not fail it."""
    log = get_run_logger()
    with explained():
        served = served_configuration(config)
        loaded, host = served.config, served.config.hostname or socket.gethostname()
        report = watch(loaded, host, now=lambda: datetime.now(UTC), labelled=served.known_labelled)
    publish(loaded, report)
    for finding in report.findings:
        log.warning("%s", finding)
    for finding in report.ended:
        log.info("over: %s", finding.name)
    for line in (*(f"channel {name} could not be told" for name in report.untold), *report.notes):
        log.warning("%s", line)
    show_table("findings", report.host, [_finding(finding) for finding in report.findings], _words(report))
    show_table(
        "stacks", report.host, [_stack(view, report.time) for view in report.stacks], "What is backed up and proven."
    )
    return report


def _words(report: MonitorReport) -> str:
    if not report.findings:
        return f"No findings about {len(report.stacks)} stacks on {report.host}."
    return f"{len(report.findings)} findings on {report.host}, the worst is {report.worst}."


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "severity": str(finding.severity),
        "finding": finding.kind,
        "about": finding.subject,
        "since": moment(finding.since) if finding.since else "",
        "found": finding.found,
        "wanted": finding.wanted,
        "what to do": finding.hint,
    }


def _stack(view: StackView, now: datetime) -> dict[str, str]:
    seen = view.seen

    def ago(when: datetime | None) -> str:
        return f"{seconds((now - when).total_seconds())} ago" if when else "never"

    return {
        "stack": seen.stack,
        "last backup": ago(seen.newest),
        "last proof": ago(seen.last_proven),
        "RTO": seconds(seen.rto) if seen.rto is not None else "not measured",
        "size": size(seen.size) if seen.size is not None else "not known",
        "next backup": moment(view.next_backup) if view.next_backup else "by hand",
        "next drill": moment(view.next_drill) if view.next_drill else "by hand",
    }
