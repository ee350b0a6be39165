"""What is not as it should be: findings from what was seen and what is wanted. No clock, no I/O.

Rules upheld here:
- Freshness first. What a finding is about is when data was last *there* and *proven*, not whether a run was green.
- A stack that was never backed up is late from the moment that it is declared with a schedule.
- What nobody promised is no finding: without a schedule and a threshold there is nothing to be late for.
- Ages are told by a clock that may be wrong: a backup from the future is a finding, and never a fresh one for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

import msgspec

from holdfast.model.monitor import Finding, Severity
from holdfast.model.words import seconds, size

CLOCK_TOLERANCE = 300.0
"""Seconds by which two clocks may differ without it being told."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was promised of a stack, in seconds; None where nothing was. `shrunk` is a share, 0.5 for half."""

    backup_within: float | None = None
    proven_within: float | None = None
    rto: float | None = None
    shrunk: float = 0.5


class SourceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of one source of a stack: its newest snapshot, and how many bytes and files it holds."""

    source: str
    newest: datetime
    size: int | None = None
    files: int | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of a stack: sizes in bytes are those of the newest and of the whole restore point before it.

    `files` are those of the newest.
    `failed_drill` is the problem of the newest drill when it did not pass; `rto` and `rpo` are in seconds, by the last
    proof.
    """

    stack: str
    newest: datetime | None
    last_proven: datetime | None
    failed_drill: str | None = None
    rto: float | None = None
    rpo: float | None = None
    size: int | None = None
    files: int | None = None
    size_before: int | None = None
    incomplete_since: datetime | None = None
    sources: tuple[SourceSeen, ...] = ()
    remedy: str = ""
    """The command that brings both a backup and a proof; "" for those of a stack."""


def judge_stack(wanted: Wanted, seen: Seen, now: datetime) -> Iterator[Finding]:
    """The findings about one stack."""
    yield from _backup(wanted, seen, now)
    yield from _proof(wanted, seen, now)
    yield from _size(wanted, seen)


def _backup(wanted: Wanted, seen: Seen, now: datetime) -> Iterator[Finding]:
    hint = seen.remedy or f"holdfast backup --stack {seen.stack}"
    if wanted.backup_within is not None:
        limit = f"one within {seconds(wanted.backup_within)}"
        if seen.newest is None:
            yield _found("backup-missing", seen, Severity.CRITICAL, "no backup was ever taken", limit, hint)
        elif (age := (now - seen.newest).total_seconds()) > wanted.backup_within:
            worse = Severity.CRITICAL if age > 2 * wanted.backup_within else Severity.WARNING
            yield _found("backup-late", seen, worse, f"the newest backup is {seconds(age)} old", limit, hint)
    if seen.newest is not None and (ahead := (seen.newest - now).total_seconds()) > CLOCK_TOLERANCE:
        found = f"the newest backup is dated {seconds(ahead)} ahead of this host's clock: how old it is, nobody knows"
        yield _found("backup-from-the-future", seen, Severity.WARNING, found, "clocks that agree", "timedatectl; date")
    if seen.incomplete_since is not None:
        when = f"{seen.incomplete_since:%Y-%m-%d %H:%M} UTC"
        found = f"the run of {when} captured only a part of the sources"
        yield _found("backup-incomplete", seen, Severity.WARNING, found, "every source of the stack", hint)


def _proof(wanted: Wanted, seen: Seen, now: datetime) -> Iterator[Finding]:
    hint = seen.remedy or f"holdfast drill --stack {seen.stack}"
    if seen.failed_drill is not None:
        yield _found("drill-failed", seen, Severity.CRITICAL, seen.failed_drill, "a drill that passes", hint)
    if wanted.proven_within is not None and seen.newest is not None:
        limit = f"a drill that passed within {seconds(wanted.proven_within)}"
        if seen.last_proven is None:
            yield _found("proof-missing", seen, Severity.WARNING, "no restore was ever proven", limit, hint)
        elif (age := (now - seen.last_proven).total_seconds()) > wanted.proven_within:
            worse = Severity.CRITICAL if age > 2 * wanted.proven_within else Severity.WARNING
            yield _found("proof-late", seen, worse, f"the last proof is {seconds(age)} old", limit, hint)
    if wanted.rto is not None and seen.rto is not None and seen.rto > wanted.rto:
        found = f"the last drill restored it in {seconds(seen.rto)}"
        yield _found("rto-above-objective", seen, Severity.WARNING, found, f"at most {seconds(wanted.rto)}", hint)


def _size(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    if not seen.size_before or seen.size is None:
        return
    lost = 1 - seen.size / seen.size_before
    if lost > wanted.shrunk:
        found = f"it shrank by {lost:.0%}, from {size(seen.size_before)} to {size(seen.size)}"
        hint = "holdfast list; look for what is missing before retention forgets the larger ones"
        yield _found("backup-shrank", seen, Severity.WARNING, found, f"at most {wanted.shrunk:.0%} less", hint)


def judge_verification(
    last_good: datetime | None, problems: int, within: float | None, now: datetime
) -> Iterator[Finding]:
    """The findings about verification of the repository; `problems` are those of the newest one."""
    subject, hint = "repository", "holdfast verify --read-data"

    def found(kind: str, severity: Severity, text: str, wanted: str) -> Finding:
        return Finding(kind=kind, subject=subject, severity=severity, found=text, wanted=wanted, hint=hint)

    if problems:
        text = f"the last verification found {problems} problems"
        yield found("verification-failed", Severity.CRITICAL, text, "stored data that is whole")
    if within is not None:
        limit = f"one within {seconds(within)}"
        if last_good is None:
            yield found("verification-missing", Severity.WARNING, "the stored data was never verified", limit)
        elif (age := (now - last_good).total_seconds()) > within:
            text = f"the last good verification is {seconds(age)} old"
            yield found("verification-late", Severity.WARNING, text, limit)


def started_and_ended(before: Sequence[Finding], now: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """What is new and what is over, by name. A finding that became worse counts as new."""
    old = {finding.name: finding for finding in before}
    new = {finding.name for finding in now}
    started = [f for f in now if f.name not in old or f.severity.rank > old[f.name].severity.rank]
    return started, [finding for finding in before if finding.name not in new]


def carried(before: Sequence[Finding], found: Sequence[Finding], unseen: Collection[str]) -> list[Finding]:
    """What was found, and what was open before in the areas that could not be looked at: it is not over."""
    names = {finding.name for finding in found}
    return [*found, *(f for f in before if f.area in unseen and f.name not in names)]


def with_since(before: Sequence[Finding], found: Sequence[Finding], now: datetime) -> tuple[Finding, ...]:
    """The findings with the time that each was first seen, worst first."""
    since = {finding.name: finding.since for finding in before}
    dated = [msgspec.structs.replace(finding, since=since.get(finding.name) or now) for finding in found]
    return tuple(sorted(dated, key=lambda finding: (-finding.severity.rank, finding.name)))


def _found(kind: str, seen: Seen, severity: Severity, found: str, wanted: str, hint: str) -> Finding:
    return Finding(kind=kind, subject=seen.stack, severity=severity, found=found, wanted=wanted, hint=hint)
