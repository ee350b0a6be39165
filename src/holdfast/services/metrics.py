"""The monitor's report as Prometheus metrics. A moment is written as Unix seconds, so that alerts count from there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

if TYPE_CHECKING:
    from holdfast.services.report import MonitorReport


def registry_of(report: MonitorReport) -> CollectorRegistry:
    """The metrics of one report."""
    registry = CollectorRegistry()

    def gauge(name: str, words: str, *labels: str) -> Gauge:
        return Gauge(f"holdfast_{name}", words, labels, registry=registry)

    gauge("monitor_time_seconds", "When the monitor looked last.").set(report.time.timestamp())
    backup = gauge("backup_time_seconds", "When the newest whole restore point was taken.", "stack")
    proven = gauge("proven_time_seconds", "When a restore of the stack was last proven.", "stack")
    rto = gauge("rto_seconds", "How long the last proven restore took.", "stack")
    size = gauge("backup_bytes", "Content of the newest restore point.", "stack")
    files = gauge("backup_files", "Files in the newest restore point.", "stack")
    for view in report.stacks:
        seen = view.seen
        for metric, value in (
            (backup, seen.newest.timestamp() if seen.newest else None),
            (proven, seen.last_proven.timestamp() if seen.last_proven else None),
            (rto, seen.rto),
            (size, seen.size),
            (files, seen.files),
        ):
            if value is not None:
                metric.labels(seen.stack).set(value)
    findings = gauge("finding", "1 while a finding is open.", "kind", "subject", "severity")
    for finding in report.findings:
        findings.labels(finding.kind, finding.subject, str(finding.severity)).set(1)
    gauge("findings", "How many findings are open.").set(len(report.findings))
    measured = gauge("measure", "What the monitor measured, by its name.", "name")
    for name, value in report.measures.items():
        measured.labels(name).set(value)
    return registry


def write_textfile(report: MonitorReport, path: str) -> None:
    """Write the metrics, whole or not at all. Raises: OSError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_to_textfile(path, registry_of(report))
