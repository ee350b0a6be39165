"""What a check of doctor found: a value, and how an error becomes one."""

from __future__ import annotations

from typing import Literal

import msgspec

from holdfast.errors import HoldfastError

Verdict = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    check: str
    verdict: Verdict
    found: str
    hint: str | None = None


def failed(check: str, error: HoldfastError) -> Finding:
    """An error as a finding."""
    return Finding(check=check, verdict="fail", found=str(error), hint=error.hint)
