"""What one run of the monitor saw, as it is told, shown and kept on the host for `holdfast status`.

Rules upheld here:
- It is quick to load: who only reads a report loads nothing that looks.
"""

from __future__ import annotations

import logging
import os
from datetime import datetime

import msgspec

from holdfast.config.place import state_folder
from holdfast.model.monitor import Finding, Severity, Trend
from holdfast.policy.freshness import Seen
from holdfast.store.durable import publish, write_unfinished

log = logging.getLogger(__name__)

_NAME = "report.json"


class Filesystem(msgspec.Struct, frozen=True, kw_only=True):
    """One filesystem: bytes, and the share of its inodes that is used."""

    path: str
    total: float
    used: float
    inodes: float


class StackView(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a stack, and when its next backup and drill are due."""

    seen: Seen
    next_backup: datetime | None
    next_drill: datetime | None


class MonitorReport(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the monitor. `untold` are channels that did not take their notices; `notes` what else went wrong.

    `repository` is the id of the one that was looked at, "" when it did not answer; `verified` is its last verification
    without damage.
    """

    host: str
    time: datetime
    findings: tuple[Finding, ...]
    started: tuple[Finding, ...]
    ended: tuple[Finding, ...]
    stacks: tuple[StackView, ...]
    filesystems: tuple[Filesystem, ...]
    measures: dict[str, float]
    trends: tuple[Trend, ...]
    repository: str
    verified: datetime | None
    untold: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def worst(self) -> Severity | None:
        """The severity of the worst finding."""
        return max((finding.severity for finding in self.findings), key=lambda s: s.rank, default=None)


def keep_report(report: MonitorReport) -> None:
    """Write it where the host keeps what Holdfast remembers. That it cannot be written is told in the log."""
    try:
        write_whole(os.path.join(state_folder(), _NAME), msgspec.json.encode(report))
    except OSError as error:
        log.warning("the report was not written: %s", error.strerror)


def last_report() -> MonitorReport | None:
    """What this host's monitor saw last; None where it has not looked yet, or that cannot be read."""
    try:
        with open(os.path.join(state_folder(), _NAME), "rb") as file:
            return msgspec.json.decode(file.read(), type=MonitorReport)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        log.warning("what the monitor saw last cannot be read: %s", error)
        return None


def write_whole(path: str, document: bytes) -> None:
    """Write a file of the host's own, whole or not at all. Raises: OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    publish(write_unfinished(folder, document), path, replace=True)
