"""The status page: what the monitor saw last, for a phone as well as for a wall."""

from __future__ import annotations

import logging
import os
from datetime import datetime
from typing import TYPE_CHECKING

from holdfast.config.place import state_folder
from holdfast.model.monitor import Severity
from holdfast.model.words import seconds
from holdfast.reports.pages import page
from holdfast.services.report import MonitorReport

if TYPE_CHECKING:
    from holdfast.config.models import Config

log = logging.getLogger(__name__)

NAME = "status.html"
_VERDICTS: dict[Severity | None, tuple[str, str]] = {
    Severity.CRITICAL: ("CRITICAL", "bad"),
    Severity.WARNING: ("WARNING", "warn"),
}
"""The word, and its colour; what is less bad is fine."""


def status_page(report: MonitorReport, *, price: float | None = None) -> str:
    """The page; `price` is what the store asks for a GiB and month."""
    word, tone = _VERDICTS.get(report.worst, ("FINE", "good"))

    def ago(when: datetime) -> str:
        return f"{seconds((report.time - when).total_seconds())} ago"

    return page(
        "status.html.j2",
        report=report,
        word=word,
        tone=tone,
        ago=ago,
        cost=store_cost(report, price),
        late={finding.subject for finding in report.findings if finding.kind == "backup-late"},
        growth={trend.name: trend.per_day for trend in report.trends if trend.kind == "stack"},
        inodes={disk.path: disk.inodes for disk in report.filesystems},
    )


def store_cost(report: MonitorReport, price: float | None) -> float | None:
    """What the store costs a month, where the price of a GiB is known and the store was seen."""
    stored = report.measures.get("store-bytes")
    return None if price is None or stored is None else price * stored / (1 << 30)


def publish(config: Config, report: MonitorReport) -> None:
    """Write the page where the host keeps what Holdfast remembers. That it cannot be written is told in the log."""
    try:
        write_status(report, state_folder(), price=float(config.monitor.price) if config.monitor.price else None)
    except OSError as error:
        log.warning("the status page was not written: %s", error.strerror)


def write_status(report: MonitorReport, folder: str, *, price: float | None = None) -> str:
    """Write the page, whole or not at all; its path. Raises: OSError."""
    path = os.path.join(folder, NAME)
    os.makedirs(folder, exist_ok=True)
    with open(f"{path}.part", "w", encoding="utf-8") as file:
        file.write(status_page(report, price=price))
    os.replace(f"{path}.part", path)
    return path
