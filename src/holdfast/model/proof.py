"""The proof: the record of a drill. It says which restore point, what was checked, what was found, how long it took."""

from __future__ import annotations

from datetime import datetime

import msgspec

from holdfast.model.ids import PointId, SnapshotId


class SourceProof(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill found for one source: `compared` in words ("5,000 files, 12.3 MB"), `problems` one line each.

    `recoverable_until`: with a WAL archive, the last commit that a recovery could reach when the drill ran.
    """

    source: str
    snapshot: SnapshotId
    compared: str
    restore_seconds: float
    problems: tuple[str, ...] = ()
    recoverable_until: datetime | None = None


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One drill of one restore point, passed only when nothing differed.

    `rto_seconds`: from the start of the restore until every source was there and answered.
    `rpo_seconds`: how much of the past a disaster at `started` would have cost: the age of the restore point then, or
    that of the last archived commit where a source has a WAL archive; of several sources the worst.
    """

    id: str
    stack: str
    point: PointId
    point_time: datetime
    started: datetime
    finished: datetime
    rto_seconds: float
    rpo_seconds: float
    sources: tuple[SourceProof, ...]
    sandbox: str
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether everything was restored, compared and found the same."""
        return self.error is None and bool(self.sources) and not any(source.problems for source in self.sources)
