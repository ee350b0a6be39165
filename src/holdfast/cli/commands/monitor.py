"""`holdfast monitor`: look once, tell what changed, and say what is not as it should be."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from holdfast.cli import text
from holdfast.cli.findings import counted, finding_lines
from holdfast.cli.options import Access, repository_options
from holdfast.errors import FindingsOpen

if TYPE_CHECKING:
    from holdfast.services.report import MonitorReport


@click.command()
@repository_options
def command(access: Access) -> int:
    """Check freshness, proofs, sizes and space; tell the channels of `notify`; write the metrics.

    The same as a page for a browser is status.html in the state folder (HOLDFAST_STATE).
    Exits 0 when nothing is wrong, 3 with warnings, 53 when something is critical.
    """
    from holdfast.reports.status import publish
    from holdfast.services.discovery import served_stacks
    from holdfast.services.monitor import watch

    served = served_stacks(access.config())
    config, host = served.config, served.config.hostname or socket.gethostname()
    report = watch(config, host, now=lambda: datetime.now(UTC), labelled=served.known_labelled)
    publish(config, report)
    if access.json:
        text.show_json(report)
    else:
        _show(report)
    critical = [finding for finding in report.findings if finding.severity == "critical"]
    if critical:
        raise FindingsOpen(
            f"{len(critical)} critical finding{'s' if len(critical) > 1 else ''}",
            which=report.host,
            found=str(critical[0]),
            hint=critical[0].hint,
        )
    return 3 if any(finding.severity == "warning" for finding in report.findings) else 0


def _show(report: MonitorReport) -> None:
    text.show(f"{report.host}: {counted(report.findings)} about {text.many(len(report.stacks), 'stack')}")
    for line in finding_lines(report.findings):
        text.show(line)
    for finding in report.ended:
        text.show(f"over: {finding.name}")
    for name in report.untold:
        text.tell(f"channel {name} could not be told; it will be tried again")
    for note in report.notes:
        text.tell(note)
