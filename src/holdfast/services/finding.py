"""What a check of doctor found: a value, and how an error becomes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

from holdfast.errors import HoldfastError

T = TypeVar("T")
Verdict = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    check: str
    verdict: Verdict
    found: str
    wanted: str | None = None
    hint: str | None = None


def failed(check: str, error: HoldfastError) -> Finding:
    """An error as a finding."""
    return Finding(check=check, verdict="fail", found=str(error), hint=error.hint)


def attempt(findings: list[Finding], check: str, work: Callable[[], T], words: Callable[[T], str]) -> T | None:
    """What `work` gives, and a finding about it; None, and its error as a finding, when it fails."""
    try:
        value = work()
    except HoldfastError as error:
        findings.append(failed(check, error))
        return None
    findings.append(Finding(check=check, verdict="ok", found=words(value)))
    return value
