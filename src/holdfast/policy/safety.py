"""Findings about what everything else rests on: the repository's keys, its bucket, the clocks. No clock, no I/O.

Rules upheld here:
- One key means one password: who forgets it loses every backup. That is told (info) from the first day, and is a
  warning when there were more keys before, or when another one cannot be read any more.
- What a server cannot do is told as information; what it could do and does not, as a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from holdfast.model.bucket import BucketFacts
from holdfast.model.monitor import Finding, Severity
from holdfast.model.words import seconds
from holdfast.policy.freshness import CLOCK_TOLERANCE


def judge_keys(readable: int, total: int, before: int) -> Iterator[Finding]:
    """The findings about the keys: how many can be read, how many there are, how many there were lately."""
    if readable > 1:
        return
    lost = total > readable or before > readable
    what = f"of {total} keys one can be read" if total > readable else "there is one key"
    earlier = f", there were {before}" if before > total else ""
    yield Finding(
        kind="key-is-the-only-one",
        subject="repository",
        severity=Severity.WARNING if lost else Severity.INFO,
        found=f"{what}{earlier}: without its password every backup is lost",
        wanted="a second key, its password kept elsewhere",
        hint="holdfast key add --new-password-file FILE",
    )


def judge_bucket(facts: BucketFacts) -> Iterator[Finding]:
    """The findings about a bucket and its clock."""

    def found(kind: str, severity: Severity, text: str, wanted: str, hint: str) -> Finding:
        return Finding(kind=kind, subject=facts.name, severity=severity, found=text, wanted=wanted, hint=hint)

    if facts.readable_by_all:
        text = "it answers to a request without credentials: anybody can copy the key files and guess passwords"
        hint = f"aws s3api put-public-access-block --bucket {facts.name} --public-access-block-configuration …; key add"
        yield found("bucket-readable-by-all", Severity.CRITICAL, text, "a bucket that asks who is there", hint)
    if not facts.locked and not facts.versioned:
        unknown = facts.versioned is None
        text = "this server knows no versions" if unknown else "neither versions nor Object Lock are on"
        text += ": whoever has the credentials deletes for good"
        hint = f"aws s3api put-bucket-versioning --bucket {facts.name} --versioning-configuration Status=Enabled"
        severity = Severity.INFO if unknown else Severity.WARNING
        yield found("bucket-forgets", severity, text, "versions, or Object Lock", hint)
    if facts.clock is not None and abs(skew := (facts.asked - facts.clock).total_seconds()) > CLOCK_TOLERANCE:
        text = f"this host's clock is {seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'} the bucket's"
        hint = "timedatectl; date: ages, schedules and retention are told by it"
        limit = f"at most {seconds(CLOCK_TOLERANCE)}"
        yield found("clock-differs", Severity.WARNING, text, limit, hint)
