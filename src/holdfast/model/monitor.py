"""What the monitor finds and remembers: findings with a severity, samples of measured values, trends of sizes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad a finding is. `warning`: somebody should look today; `critical`: data is at risk now."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """For comparison: a higher one is worse."""
        return list(Severity).index(self)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be.

    `kind` is its name among findings ("backup-late"), `subject` what it is about; together they are its identity: the
    same finding in the next run is the same alert. `since` is when it was first seen, None before that is known.
    `area` is where one has to look for it: while that cannot be seen, nobody knows that it is over.
    """

    kind: str
    subject: str
    severity: Severity
    found: str
    wanted: str = ""
    hint: str = ""
    since: datetime | None = None
    area: str = "repository"

    @property
    def name(self) -> str:
        """Its identity: `backup-late shop`."""
        return f"{self.kind} {self.subject}"

    def __str__(self) -> str:
        wanted = f" (wanted: {self.wanted})" if self.wanted else ""
        return f"{self.severity.upper()}: {self.kind}, {self.subject}: {self.found}{wanted}"


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the monitor saw.

    `measures` are numbers by name ("volume-bytes shop_uploads"); `heads` the newest proofs, so that their removal is
    noticed; `findings` what was open.
    """

    time: datetime
    measures: dict[str, float] = {}
    heads: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """How one size moves, in bytes: now, per day, and the seconds until its limit; None where that is not known.

    `kind` is filesystem, volume, volume's backup, stack, engine or store; `points` are there for what is drawn. `files`
    are those of its last backup, which counted them.
    """

    kind: str
    name: str
    now: float
    limit: float | None = None
    per_day: float | None = None
    full_in: float | None = None
    files: float | None = None
    files_per_day: float | None = None
    points: tuple[tuple[datetime, float], ...] = ()
