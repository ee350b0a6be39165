"""The task of the monitor: look once, and show what was found."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from prefect import get_run_logger

from holdfast.model.monitor import Finding, Trend
from holdfast.model.words import count, growth
from holdfast.reports.picture import full_words, storage_picture
from holdfast.reports.status import publish, store_cost
from holdfast.services.monitor import watch
from holdfast.services.report import MonitorReport, StackView
from tasks.artifacts import artifact_page, moment, seconds, show_picture, show_table, size
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
    _show_storage(report, None if loaded.monitor.price is None else float(loaded.monitor.price))
    show_table(
        "stacks", report.host, [_stack(view, report.time) for view in report.stacks], "What is backed up and proven."
    )
    return report


def _show_storage(report: MonitorReport, price: float | None) -> None:
    """How much there is, how it grows, what is full when: as a table, and as a picture."""
    picture, shown = storage_picture(report.trends), None
    if picture is not None:
        shown = show_picture(
            "growth", report.host, picture, f"How sizes grew on {report.host} in two weeks.", now=report.time
        )
    link = f"\n\n[As a picture]({artifact_page(shown)})" if shown else ""
    inodes = {disk.path: disk.inodes for disk in report.filesystems}
    rows = [_trend(trend, inodes.get(trend.name) if trend.kind == "filesystem" else None) for trend in report.trends]
    show_table("storage", report.host, rows, _storage_words(report, price) + link)


def _storage_words(report: MonitorReport, price: float | None) -> str:
    full = [trend for trend in report.trends if trend.full_in is not None]
    words = [f"{trend.name} is {full_words(trend)} by its trend." for trend in full]
    cost = store_cost(report, price)
    words += [f"The store costs {cost:.2f} a month at the given price."] if cost is not None else []
    return " ".join(words) or f"Nothing on {report.host} fills up by its trend."


def _trend(trend: Trend, inodes: float | None) -> dict[str, str]:
    return {
        "what": trend.kind,
        "name": trend.name,
        "size": size(trend.now),
        "of": size(trend.limit) if trend.limit else "",
        "growth": growth(trend.per_day),
        "full in": seconds(trend.full_in) if trend.full_in is not None else "",
        "inodes used": "" if inodes is None else f"{inodes:.0%}",
        "files at the last backup": "" if trend.files is None else count(trend.files),
        "growth of files": "" if trend.files is None else growth(trend.files_per_day, count),
    }


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
        "RPO": seconds(seen.rpo) if seen.rpo is not None else "not measured",
        "size": size(seen.size) if seen.size is not None else "not known",
        "next backup": moment(view.next_backup) if view.next_backup else "by hand",
        "next drill": moment(view.next_drill) if view.next_drill else "by hand",
    }
