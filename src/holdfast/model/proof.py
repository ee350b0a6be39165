"""The proof: the record of a drill. It says which restore point, what was checked, what was found, how long it took.

Rules upheld here:
- A proof never changes. Each names the ones before it by the digests of their stored bytes (`Link`), so that one that
  was removed or altered is noticed, and what it said is still known.
- Fields that were added later have defaults: what an older version wrote stays readable.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from holdfast.model.ids import PointId, SnapshotId


class Step(msgspec.Struct, frozen=True):
    """One step of a restore and how long it took: "restore", "start the server", "load"."""

    name: str
    seconds: float


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """One of the user's own checks of restored data: `found` in words; it passed when there is no problem."""

    name: str
    found: str
    problem: str | None = None


class SourceProof(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill found for one source: `compared` in words ("5,000 files, 12.3 MB"), `problems` one line each.

    `recoverable_until`: with a WAL archive, the last commit that a recovery could reach when the drill ran.
    `instant`: the instant of the window that was recovered to, where one was chosen at random; `reached`: the last
    commit that the recovered server had then.
    `steps` are the parts of `restore_seconds`; `sampled` says why, and how far, not everything was restored.
    """

    source: str
    snapshot: SnapshotId
    compared: str
    restore_seconds: float
    problems: tuple[str, ...] = ()
    recoverable_until: datetime | None = None
    steps: tuple[Step, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    sampled: str | None = None
    instant: datetime | None = None
    reached: datetime | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier proof: the SHA-256 of its stored bytes, and enough of it to say what is missing when it is gone."""

    digest: str
    stack: str
    point: PointId
    finished: datetime
    passed: bool


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One drill of one restore point, passed only when nothing differed.

    `rto_seconds`: from the start of the restore until every source was there and answered.
    `rpo_seconds`: how much of the past a disaster at `started` would have cost: the age of the restore point then, or
    that of the last archived commit where a source has a WAL archive; of several sources the worst.
    `previous`: the proofs that were the newest when this one was made, those of other stacks included.
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
    checks: tuple[CheckResult, ...] = ()
    previous: tuple[Link, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything was restored, compared and found the same, and every check of the user's passed."""
        return self.error is None and bool(self.sources) and not self.problems

    @property
    def sampled(self) -> bool:
        """Whether only a part was restored."""
        return any(source.sampled for source in self.sources)

    @property
    def proven(self) -> bool:
        """Whether it passed, and everything was restored: what alone makes a restore point proven."""
        return self.passed and not self.sampled

    @property
    def problems(self) -> tuple[str, ...]:
        """Every difference and every failed check, one line each."""
        checks = [*self.checks, *(check for source in self.sources for check in source.checks)]
        return (
            *(problem for source in self.sources for problem in source.problems),
            *(f"check {check.name}: {check.problem}" for check in checks if check.problem),
        )
